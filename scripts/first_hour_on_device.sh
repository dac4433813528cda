#!/usr/bin/env bash
# Measures a new device within an hour: one TPU VM, or one machine with GPUs.
#
#   scripts/first_hour_on_device.sh OUT [--quick] [FLAG...]
#
# OUT is a new folder. FLAGs go to the training runs, such as
# --config.data.manual_dir=DIR. It installs nothing: first `pip install -e '.[test]'`
# beside JAX for the device. Every step has a time limit, and a step that fails does not
# stop the next. OUT/summary.jsonl has one line a step and one line a figure, and is
# printed at the end; beside it is the log of each step. --quick makes all of it small,
# for a CPU. On a GPU, "same_bits" needs XLA_FLAGS=--xla_gpu_deterministic_ops=true, which
# may cost speed. Exit status: 0 if every step ended well and the resumed run is the same.
set -uo pipefail
if (($# < 1)) || [[ $1 == -* ]] || [[ -e $1 ]]; then
  echo "usage: $0 OUT [--quick] [FLAG...], OUT a new folder" >&2
  exit 2
fi
mkdir -p "$1" && out=$(cd "$1" && pwd) && shift || exit 2
cd "$(dirname "$0")/.." || exit 2

tests=(tests/algorithm tests/layers tests/objective/test_penalties.py
  tests/objective/test_augment.py)
bench=(--workload=all --turns=3)
config=(--config=configs/mnist.py)
evaluate=()
if [[ ${1:-} == --quick ]]; then
  shift
  tests=(tests/algorithm/test_latents.py)
  bench=(--workload=mlp_ring --turns=1 --seconds=0.2)
  config+=(--config.num_steps=3000 --config.width=4 --config.batch_size=16
    --config.data.source=packaged --config.eval.every=1000 --config.eval.num=200)
  evaluate=(--num=500)
fi
config+=("$@")

note() { printf '%s\n' "$1" | tee -a "$out/summary.jsonl"; }

step() { # NAME MINUTES COMMAND...: its output goes to OUT/NAME.log
  local name=$1 minutes=$2 start=$SECONDS status=0
  shift 2
  timeout --kill-after=20 "${minutes}m" "$@" > "$out/$name.log" 2>&1 || status=$?
  note "{\"step\": \"$name\", \"status\": $status, \"seconds\": $((SECONDS - start))}"
  ((status == 0)) || failed=1
}

stopped() { # waits for a record of a run, and stops it by SIGTERM; it must exit with 143
  "$@" &
  local pid=$! status=0
  trap 'kill $pid' TERM
  until [[ -s $out/resumed/metrics.jsonl ]] || ! kill -0 "$pid"; do sleep 0.1; done
  kill "$pid"
  wait "$pid" || status=$?
  echo "exit status $status"
  ((status == 143))
}
export -f stopped
export out

failed=0
train=(python -m gan_jax.train "${config[@]}")
step devices 2 python - <<'PYTHON'
import json, jax
devices = jax.devices()
print(json.dumps({"device": devices[0].device_kind, "platform": devices[0].platform,
                  "devices": len(devices), "jax": jax.__version__}))
PYTHON
grep '^{"device"' "$out/devices.log" | tee -a "$out/summary.jsonl"
platform=$(sed -n 's/.*"platform": "\(\w*\)".*/\1/p' "$out/devices.log")
[[ $platform == gpu ]] && platform=cuda
# The tests compare with closed forms: in float32, and one process has the device.
step tests 15 env JAX_PLATFORMS="$platform,cpu" JAX_DISABLE_MOST_OPTIMIZATIONS=0 \
  JAX_DEFAULT_MATMUL_PRECISION=highest python -m pytest -n 0 "${tests[@]}"
step bench 12 python scripts/bench.py "${bench[@]}" --json
step train 14 "${train[@]}" --workdir="$out/run"
step evaluate 4 python -m gan_jax.evaluate --workdir="$out/run" "${evaluate[@]}" --json
again=("${train[@]}" --config.eval.every=0 --workdir="$out/resumed")
step stop 5 bash -c 'stopped "$@"' stopped "${again[@]}"
saved=$(sed -n 's/^stopped: saved at step \([0-9]*\).*/\1/p' "$out/stop.log")
# Up to a step at which both runs draw samples.
step resume 4 "${again[@]}" --config.num_steps=$(((${saved:-0} / 100 + 2) * 100))

OUT=$out python - <<'PYTHON' | tee -a "$out/summary.jsonl"
import json, os, pathlib
out = pathlib.Path(os.environ["OUT"])

def lines(path):
    text = path.read_text() if path.exists() else ""
    return [json.loads(x) for x in text.splitlines() if x.startswith("{")]

def figure(name, **what):
    print(json.dumps({"figure": name, **what}))

tests = (out / "tests.log").read_text().splitlines()
figure("tests", result=tests[-1] if tests else "nothing")
for row in lines(out / "bench.log"):
    figure("bench", **row)
run, again = (lines(out / name / "metrics.jsonl") for name in ("run", "resumed"))
if run:
    keys = ("step", "images_per_sec", "data_stall", "d_real", "d_fake", "value")
    figure("train", **{key: run[-1].get(key) for key in keys})
for row in lines(out / "run/evaluations.jsonl")[-1:]:
    figure("evaluation", **row)
for row in lines(out / "evaluate.log"):
    figure("evaluate", **row)
times = ("images_per_sec", "data_stall", "seconds_left", "wall_time")
run, again = ([{k: v for k, v in row.items() if k not in times and k[:5] != "eval_"}
               for row in rows] for rows in (run, again))
# Both runs take the same steps; one of them was stopped and resumed.
figure("resume", steps=len(again), same_bits=bool(again) and run[: len(again)] == again)
PYTHON
grep -q '"same_bits": true' "$out/summary.jsonl" || failed=1
echo "in $((SECONDS / 60)) min: $out/summary.jsonl"
exit $failed
