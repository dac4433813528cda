"""How near is near, and the largest differences of a session."""

import jax
import numpy as np
import pytest


@pytest.fixture
def near(record_property):
    """Compares trees of arrays: `near(got, wanted, within=1e-4)`.

    The difference of two arrays is measured by its norm, relative to the norm of the
    wanted one, or to a hundredth of the norm of the whole tree if that is more: what is
    zero but for rounding has no relative difference of its own.
    """

    def compare(got, wanted, within=1e-4):
        got, wanted = jax.tree.map(as_float64, (got, wanted))
        assert jax.tree.structure(got) == jax.tree.structure(wanted)
        pairs = list(zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True))
        whole = np.sqrt(sum(np.square(w).sum() for _, w in pairs))
        assert whole > 1e-6, "there is nothing to compare"
        for one, other in pairs:
            assert one.shape == other.shape
            scale = max(np.linalg.norm(other), 0.01 * whole)
            difference = np.linalg.norm(one - other) / scale
            record_property("difference", float(difference))
            assert difference <= within

    return compare


def as_float64(x):
    return np.asarray(x.detach() if hasattr(x, "detach") else x, np.float64)


def pytest_terminal_summary(terminalreporter):
    """Prints the largest difference in each file."""
    largest = {}
    for report in terminalreporter.getreports("passed"):
        file = report.nodeid.partition("::")[0]
        if "tests/parity/" in f"/{file}" and report.when == "call":
            found = [x for name, x in report.user_properties if name == "difference"]
            largest[file] = max([largest.get(file, 0.0), *found])
    if largest:
        terminalreporter.section("largest relative difference")
    for file, difference in sorted(largest.items()):
        terminalreporter.write_line(f"{file}  {difference:.1e}")
