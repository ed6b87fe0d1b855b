#!/usr/bin/env bash
# Sequence-level distillation: translate the training set with a teacher, train a student on that.
#
#   run.sh DATA_BIN TEACHER OUT [further fairseq-train flags, e.g. --arch tree_transformer_tiny]
#
# DATA_BIN is what the teacher was trained on (fairseq-preprocess's folder), TEACHER its checkpoint
# (several, separated by ':', are an ensemble). OUT/distilled/data-bin becomes the new training set
# with the old validation and test sets; OUT/student gets the checkpoints. The student is a
# Transformer of the Multi30k size with a single decoder layer; a further flag wins over the one
# set here. FORWARD holds further flags of tsa-mt forward-translate.
# Run again, both steps go on where they stopped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi

fail() { echo "run.sh: error: $*" >&2; exit 1; }

[ $# -ge 3 ] || fail "expected DATA_BIN TEACHER OUT, got $# arguments"
data=$1 teacher=$2 out=$3
shift 3
for tool in fairseq-train tsa-mt; do
  command -v "$tool" > /dev/null || fail "'$tool' is not on PATH; run 'make .venv' in $root first"
done

distilled=$out/distilled
if [ ! -d "$distilled/data-bin" ]; then
  read -r -a forward <<< "${FORWARD:-}"
  tsa-mt forward-translate "$data" "$distilled" --teacher "$teacher" "${forward[@]}"
fi

dictionaries=("$distilled"/data-bin/dict.*.txt)
embeddings=--share-decoder-input-output-embed
if cmp -s "${dictionaries[@]:0:2}"; then embeddings=--share-all-embeddings; fi

mkdir -p "$out/student"
fairseq-train "$distilled/data-bin" --user-dir "$root/tsa_mt" --task translation \
  --arch tree_transformer_multi30k --decoder-layers 1 --tree chain $embeddings \
  --criterion online_kd --kd-objective independent --label-smoothing 0.1 --dropout 0.1 \
  --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 \
  --lr 0.003 --lr-scheduler inverse_sqrt --warmup-updates 1000 --warmup-init-lr 1e-07 \
  --max-tokens 2048 --required-batch-size-multiple 1 --seed 1 \
  --best-checkpoint-metric loss --patience 5 --no-epoch-checkpoints \
  --no-progress-bar --log-format simple --log-interval 100 \
  --save-dir "$out/student" "$@" 2>&1 | tee -a "$out/student/train.log"
