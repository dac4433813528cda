"""Whose slices the samples are near to."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[2] / "scripts" / "nearest_patients.py"
    spec = importlib.util.spec_from_file_location("nearest_patients", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_near_is_nearer_than_other_patients(script):
    """On a line: a at 0, 1 and 2, b at 5 and 20, c at 21."""
    x = np.array([[0.0], [1], [2], [5], [20], [21]])
    patients = np.array(["a", "a", "a", "b", "b", "c"])
    y = np.array([[-4.0], [-6], [2.5], [3.9], [19.5], [22.5]])
    index, distance, near = script.nearest(y, x, patients)
    assert index.tolist() == [0, 0, 2, 3, 4, 5]
    np.testing.assert_allclose(distance, [4, 6, 0.5, 1.1, 0.5, 1.5])
    # The others' nearest are at 5 from 0, at 3 from 2 and 5, at 1 from 20 and 21.
    assert near.tolist() == [True, False, True, True, True, False]


def test_a_single_patient_is_always_near(script):
    _, _, near = script.nearest(np.ones((2, 1)), np.zeros((2, 1)), np.array(["a", "a"]))
    assert near.all()
