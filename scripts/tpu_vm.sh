#!/usr/bin/env bash
# Trains on every worker of a Cloud TPU VM, from a checkout of this repository:
#
#   scripts/tpu_vm.sh NAME ZONE gs://BUCKET/gan_jax.tgz --config=configs/mnist.py \
#       --config.batch_size=1024 --workdir=gs://BUCKET/run
#
# NAME and ZONE are those of the TPU VM. The last commit is copied there through the
# bucket. The other arguments are flags of gan_jax.train. The workers find each other.
# The workdir must be in a bucket, or on a file system that all of them share; with one
# worker its own disk will do. The run continues after this command has ended. On each
# worker it logs to ~/gan_jax/log, and its process is in ~/gan_jax/pid. SIGTERM saves the
# run; the same command resumes it. Needs gcloud, and rights on the VM and the bucket.
# docs/tpu.md has the steps before and after.
set -euo pipefail
if (($# < 4)); then
  echo "usage: $0 NAME ZONE gs://BUCKET/ARCHIVE.tgz --config=FILE --workdir=gs://BUCKET/DIR [FLAG...]" >&2
  exit 2
fi
name=$1 zone=$2 archive=$3
shift 3
if [[ " $* " != *" --workdir="@(/|gs://)* ]]; then
  echo "error: give --workdir=gs://BUCKET/DIR, or a folder /DIR that all workers share" >&2
  exit 2
fi

cd "$(dirname "$0")/.."
if [[ -n $(git status --porcelain) ]]; then
  echo "warning: changes that are not committed are not copied" >&2
fi
git archive --format=tgz HEAD | gcloud storage cp - "$archive"
code="gan_jax/$(git rev-parse --short HEAD)-$(date +%s)" # not over that of a run
printf -v flags '%q ' "$@"
# uv, since the VM's own Python may be older than 3.11 and may lack venv.
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  set -e
  mkdir -p $code && cd $code
  gcloud storage cat $(printf %q "$archive") | tar -xz
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  ~/.local/bin/uv venv --quiet --python '>=3.11' env
  ~/.local/bin/uv pip install --quiet --python env/bin/python -e '.[gcs,tpu]'
  nohup setsid env/bin/python -m gan_jax.train $flags > ~/gan_jax/log 2>&1 < /dev/null &
  echo \$! > ~/gan_jax/pid"
ssh="gcloud compute tpus tpu-vm ssh $name --zone=$zone --worker"
echo "started; its log: $ssh=0 --command='tail -F gan_jax/log'"
echo "save and stop: $ssh=all --command='kill \$(cat gan_jax/pid)'"
