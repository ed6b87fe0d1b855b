#!/usr/bin/env bash
# What the rows of the table have in common; called by plain.sh, tsa.sh, okddip.sh and so on.
#
#   recipe.sh ROW [flags of the row] -- DATA SAVE_DIR [further fairseq-train flags]
#
# Environment: EPOCHS (300), VALID_SPLIT (5000 images held out; 0 trains on all 50,000 and keeps the
# last checkpoint), ARCH (tree_resnet32), CONTROL (1 trains the row's tree with the task loss alone: the
# control that the row has to beat). The learning rate drops after 1/2 and 3/4 of the epochs, and
# ramp-ups keep their published share of them. A further flag wins over the one set here. Run again,
# it resumes from SAVE_DIR/checkpoint_last.pt.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi

row=${1:-recipe}
fail() { echo "$row.sh: error: $*" >&2; exit 1; }

flags=()
shift || true
while [ $# -gt 0 ] && [ "$1" != -- ]; do flags+=("$1"); shift; done
shift || true
[ $# -ge 2 ] || fail "expected DATA SAVE_DIR, got $# arguments"
data=$1 save=$2
shift 2
[ -d "$data" ] || fail "DATA '$data' is not a folder; run prepare.sh first"
command -v fairseq-train > /dev/null || fail "'fairseq-train' is not on PATH; run 'make .venv' in $root first"

epochs=${EPOCHS:-300} held_out=${VALID_SPLIT:-5000} batch=128
if [ "${CONTROL:-0}" = 1 ]; then flags+=(--kd-objective independent); fi
[ "$epochs" -ge 4 ] 2> /dev/null || fail "EPOCHS is '$epochs'; it must be a number from 4 on"
updates=$((epochs * ((50000 - held_out + batch - 1) / batch)))
if [ "$held_out" -gt 0 ]; then
  choice=(--best-checkpoint-metric accuracy --maximize-best-checkpoint-metric)
else
  choice=(--disable-validation)
fi

mkdir -p "$save"
fairseq-train "$data" --user-dir "$root/tsa_mt" --task image_classification \
  --arch "${ARCH:-tree_resnet32}" --criterion online_kd --valid-split "$held_out" \
  --optimizer momentum_sgd --lr 0.1 --weight-decay 5e-4 \
  --lr-scheduler multistep --milestones "$((epochs / 2)),$((epochs * 3 / 4))" \
  --batch-size "$batch" --required-batch-size-multiple 1 --num-workers 0 \
  --max-epoch "$epochs" --max-update "$updates" --seed 1 \
  --no-epoch-checkpoints "${choice[@]}" \
  --no-progress-bar --log-format simple --log-interval 100 \
  --save-dir "$save" "${flags[@]}" "$@" 2>&1 | tee -a "$save/train.log"
