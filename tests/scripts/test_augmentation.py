"""Few reals, and what tables say of them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from idx_files import configure
from scipy import stats

from gan_jax import data
from gan_jax.build.names import user_object
from gan_jax.errors import UserError

ROOT = Path(__file__).parents[2]
few = user_object("module", str(ROOT / "scripts/few.py"))
tables = user_object("module", str(ROOT / "scripts/tables.py"))
LABELS = np.random.default_rng(0).integers(4, size=200)


@pytest.fixture
def source(idx_dir):
    def load(num, seed):
        config = configure(source=str(ROOT / "scripts/few.py"), split=str(num))
        config.data.manual_dir, config.seed = str(idx_dir), seed
        return data.load(config)

    return load


def test_a_choice_has_as_many_of_each_class_and_grows():
    for seed in range(3):
        five, nine = (few.balanced(LABELS, num, seed) for num in (5, 9))
        assert np.array_equal(np.bincount(LABELS[five]), [5] * 4)
        assert len(set(nine)) == 36
        assert set(five) < set(nine)
        assert np.array_equal(LABELS[five[:4]], range(4))


def test_a_choice_is_a_function_of_the_seed(source):
    first, again, other = source(5, 0), source(5, 0), source(5, 1)
    np.testing.assert_array_equal(first.examples, again.examples)
    assert first.info == again.info
    assert (first.examples != other.examples).any()
    assert first.info.fingerprint != other.info.fingerprint
    assert np.array_equal(np.bincount(first.conditions), [5] * 10)


def test_a_choice_has_nothing_of_the_test_or_the_validation_set(
    source, idx_dir, monkeypatch
):
    monkeypatch.setattr(few, "POOL", 200)

    def images(examples):
        return {image.tobytes() for image in examples}

    config = configure(source="tfds", split="test", manual_dir=str(idx_dir))
    test = images(data.load(config).examples)
    config.data.split = "train"
    train = data.load(config).examples
    for seed in range(3):
        chosen = images(source(9, seed).examples)
        assert len(chosen) == 90
        assert chosen <= images(train[:200])
        assert not chosen & (test | images(train[200:]))


@pytest.mark.parametrize(
    ("num", "message"),
    [("train", "takes a number"), ("0", "takes a number"), ("99", "has only")],
)
def test_refuses(num, message, source):
    with pytest.raises(UserError, match=message):
        source(num, 0)


def test_the_paired_test():
    new, old = np.array([3.0, 5, 4, 8, 5]), np.array([2.0, 1, 4, 3, 5])
    apart = new - old  # mean 2, variance 5.5
    t = 2 / np.sqrt(5.5 / 5)
    assert apart.mean() == 2
    assert apart.var(ddof=1) == 5.5
    p = 2 * stats.t.sf(t, df=4)
    assert stats.ttest_rel(new, old).pvalue == pytest.approx(p)
    assert tables.versus(new, old) == f"+2.00, p = {p:.2g}"
    assert tables.spread(apart) == "2.00 ± 1.05"  # the root of 5.5 / 5


def test_a_table_is_put_between_its_marks(tmp_path):
    page, first, other = tmp_path / "page.md", "a.py --x=1", "a.py --x=2"
    marks = "".join(f"<!-- {c}: start -->\n<!-- {c}: end -->\n" for c in (first, other))
    page.write_text(f"before\n{marks}after\n")
    for table in ("| old |", "| new |"):
        tables.put(page, other, table)
    assert page.read_text() == (
        f"before\n<!-- {first}: start -->\n<!-- {first}: end -->\n"
        f"<!-- {other}: start -->\n| new |\n<!-- {other}: end -->\nafter\n"
    )


@pytest.mark.slow
def test_measures_and_keeps_what_it_found(idx_dir, tmp_path):
    command = [sys.executable, "scripts/augmentation.py", f"--manual_dir={idx_dir}"]
    command += ["--sizes=7", "--seeds=2", "--num_steps=10", "--width=4", "--nowrite"]
    command += ["--classifier_steps=20", "--samples=150", f"--runs={tmp_path}"]

    def run():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    (row,) = run()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["7", "2.14"]  # 150 samples for 70 reals
    kept = [
        json.loads((tmp_path / f"mnist-7-seed{i}/accuracy-test.json").read_text())
        for i in range(2)
    ]
    reals = np.array([100 * one["accuracies"][0] for one in kept])
    assert cells[2] == tables.spread(reals)
    assert run() == [row]
