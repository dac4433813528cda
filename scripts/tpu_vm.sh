#!/usr/bin/env bash
# Trains on every worker of a Cloud TPU VM, from a clone of this repository:
#
#   scripts/tpu_vm.sh NAME ZONE gs://BUCKET/gan_jax.tgz --config=configs/mnist.py \
#       --config.batch_size=1024 --workdir=/mnt/shared/run
#
# NAME and ZONE are the TPU VM's; the archive of this checkout goes by way of the bucket;
# what follows are the flags of gan_jax.train. The workers find each other. The workdir
# must lie on a file system that all of them share (a Filestore share, or a disk of the
# only worker). SIGTERM, which a preempted VM sends, saves the run; the same command goes
# on with it. Needs gcloud, and rights on the VM and the bucket.
set -euo pipefail
if (($# < 4)); then
  echo "usage: $0 NAME ZONE gs://BUCKET/ARCHIVE.tgz --config=FILE [FLAG...]" >&2
  exit 2
fi
name=$1 zone=$2 archive=$3
shift 3

cd "$(dirname "$0")/.."
git archive --format=tgz HEAD | gcloud storage cp - "$archive"
printf -v flags '%q ' "$@"
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
  set -e
  rm -rf gan_jax_run && mkdir gan_jax_run && cd gan_jax_run
  gcloud storage cat $(printf %q "$archive") | tar -xz
  python3 -m venv ~/gan_jax_env
  ~/gan_jax_env/bin/pip install --quiet -e . 'jax[tpu]'
  exec ~/gan_jax_env/bin/python -m gan_jax.train $flags"
