"""What a run measures of its samples while it trains."""

import json

import numpy as np
import pytest
from runs import TIMES, config_of, records, states_of

import gan_jax
from gan_jax.errors import UserError
from gan_jax.metrics.frechet import frechet_distance, moments
from gan_jax.run import evaluation
from gan_jax.run.training import prepare, train

EVAL = {"eval.every": 2, "eval.num": 300, "eval.metrics": "fd, diversity"}
SMALL = {"num_steps": 4, "log_every": 1, "checkpoint_every": 2, "replicas": 2}


def evaluations(path):
    lines = (path / "evaluations.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns a run with evaluations, which was stopped once, and one without."""
    folder = tmp_path_factory.mktemp("runs")
    train(config_of("ring", **SMALL | {"num_steps": 2}, **EVAL), folder / "with")
    train(config_of("ring", **SMALL, **EVAL), folder / "with")
    train(config_of("ring", **SMALL), folder / "without")
    return folder / "with", folder / "without"


def test_evaluations_change_nothing(runs):
    a, b = runs
    for ours, theirs in zip(records(a), records(b), strict=True):
        same = {k: x for k, x in ours.items() if not k.startswith(("eval_", *TIMES))}
        assert same == {k: x for k, x in theirs.items() if k not in TIMES}
    ours, theirs = states_of(a), states_of(b)
    np.testing.assert_array_equal(ours[1].key, theirs[1].key)
    for x, y in zip(ours, theirs, strict=True):
        name = "Dense_0"
        np.testing.assert_array_equal(
            x.g.params[name]["kernel"], y.g.params[name]["kernel"]
        )


def test_each_replica_is_measured(runs):
    found = evaluations(runs[0])
    assert [record["step"] for record in found] == [2, 4]
    assert not (runs[1] / "evaluations.jsonl").exists()
    assert (found[1]["n_real"], found[1]["n_fake"]) == (300, 300)
    assert found[0]["floor"] == found[1]["floor"]  # of a distance alone
    assert list(found[0]["floor"]) == ["fd"]
    assert 0 < found[0]["floor"]["fd"] < 0.1 < min(found[1]["fd"])
    source = prepare(config_of("ring", **SMALL), runs[1]).source
    real = moments(evaluation.real_examples(source, 300)[0])
    for replica, value in enumerate(found[1]["fd"]):
        gan, state = gan_jax.load(runs[0], replica=replica)
        samples = np.concatenate(list(evaluation.samples(gan, state, 300, 0, None)))
        wanted = frechet_distance(real, moments(samples))
        assert value == pytest.approx(wanted, rel=1e-4)
    logged = [record["eval_fd"] for record in records(runs[0]) if "eval_fd" in record]
    assert logged == [record["fd"] for record in found]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"eval.every": 3, "log_every": 2}, "eval.every is 3: it must be a multiple"),
        ({"eval.metrics": "fid"}, "unknown metric 'fid'; did you mean 'fd'"),
        ({"eval.features": "pixel"}, "did you mean 'pixels'"),
        ({"eval.num": 1}, "eval.num is 1: it must be at least 2"),
        ({"eval.metrics": "inception_score"}, "needs an extractor with a classifier"),
        ({"eval.metrics": "fd_per_class"}, "needs samples with classes"),
        ({"eval.metrics": "ppl"}, "'ppl' is not measured while training"),
        ({"eval.features": "mnist_lenet"}, "for grey images of 28x28x1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, how, message):
    config = config_of("ring", **EVAL | {"sample_every": 2} | how)
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_measured_does_not_end_a_run(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("def broken(real, fake):\n    return 1 / 0\n")
    how = {"num_steps": 2, "eval.every": 2, "eval.metrics": f"{file}:broken"}
    train(config_of("ring", **how), tmp_path / "run")
    said = capsys.readouterr().err
    assert "cannot evaluate step 2" in said
    assert "division by zero" in said
