#!/usr/bin/env bash
# CIFAR-100, ResNet-20: a row of examples/cifar100 on a part of the training images.
#
#   images.sh DATA WORK RUN SEED NAME-ROW HELD_OUT EPOCHS
#
# ROW is what follows the last "-" of the fifth argument: plain, tsa, okddip. HELD_OUT of the 50,000
# training images choose the checkpoint, so 45000 leaves a tenth to train on. A copy of the
# published images has other checksums where it was packed anew.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi
[ $# -eq 7 ] || { echo "images.sh: error: expected seven arguments, got $#" >&2; exit 1; }
data=$1 work=$2 run=$3 seed=$4 row=${5##*-} held_out=$6 epochs=$7

images=$work/corpora/cifar100
"$root/examples/cifar100/prepare.sh" "$data/cifar100/cifar-100-python.tar.xz" "$images"
EPOCHS=$epochs VALID_SPLIT=$held_out ARCH=tree_resnet20 \
  "$root/examples/cifar100/$row.sh" "$images" "$run" --seed "$seed" --cpu --validate-interval 10 \
  --accept-any-md5
mkdir -p "$run/results"
python "$root/examples/cifar100/evaluate.py" "$images" "$run" --hardware "see record.json" \
  --accept-any-md5 --csv "$run/results/accuracy.csv"
