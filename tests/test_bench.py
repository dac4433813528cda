import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def bench(*args):
    return subprocess.run(
        [sys.executable, "scripts/bench.py", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_prints_one_json_object():
    done = bench("--workload=mlp_ring", "--seconds=0.5", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.keys() == {
        *("workload", "ms_per_step", "min_ms", "steps", "compile_s"),
    }
    assert result["workload"] == "mlp_ring"
    assert 0 < result["min_ms"] <= result["ms_per_step"]
    assert result["steps"] >= 5


def test_refuses_an_unknown_workload():
    done = bench("--workload=dcgan29")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown workload 'dcgan29'; did you mean 'dcgan28'" in done.stderr
