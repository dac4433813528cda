#!/usr/bin/env bash
# Trains on every worker of a Cloud TPU VM, from a checkout of this repository:
#
#   scripts/tpu_vm.sh NAME ZONE gs://BUCKET/gan_jax.tgz --config=configs/mnist.py \
#       --config.batch_size=1024 --workdir=/mnt/shared/run
#
# NAME and ZONE are those of the TPU VM. The last commit is copied there through the
# bucket. The other arguments are flags of gan_jax.train. The workers find each other.
# The workdir must be on a file system that all of them share (a Filestore share, or a
# disk of the only worker). The run continues after this command has ended and logs to
# ~/gan_jax/log on each worker. SIGTERM, which a preempted VM sends, saves the run; the
# same command resumes it. Needs gcloud, and rights on the VM and the bucket.
set -euo pipefail
if (($# < 4)); then
  echo "usage: $0 NAME ZONE gs://BUCKET/ARCHIVE.tgz --config=FILE --workdir=/DIR [FLAG...]" >&2
  exit 2
fi
name=$1 zone=$2 archive=$3
shift 3
if [[ " $* " != *" --workdir=/"* ]]; then
  echo "error: give --workdir=/DIR, a folder that all workers share" >&2
  exit 2
fi

cd "$(dirname "$0")/.."
git archive --format=tgz HEAD | gcloud storage cp - "$archive"
code="gan_jax/$(git rev-parse --short HEAD)-$(date +%s)" # not over that of a run
printf -v flags '%q ' "$@"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  set -e
  mkdir -p $code && cd $code
  gcloud storage cat $(printf %q "$archive") | tar -xz
  python3 -m venv env
  env/bin/pip install --quiet -e . 'jax[tpu]'
  nohup setsid env/bin/python -m gan_jax.train $flags > ~/gan_jax/log 2>&1 < /dev/null &"
