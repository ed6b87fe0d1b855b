#!/usr/bin/env bash
# Sequence-level distillation: translate the training set with a teacher, train a student on that.
#
#   run.sh DATA_BIN TEACHER OUT [further fairseq-train flags, e.g. --arch tree_transformer_tiny]
#
# DATA_BIN is what the teacher was trained on (fairseq-preprocess's folder), TEACHER its checkpoint
# (PATH:BRANCH another leaf of a tree than its leader, or all leaves with -1; several, separated by
# ':', are an ensemble). OUT/distilled/data-bin becomes the new training set with the old validation
# and test sets; OUT/student gets the checkpoints and OUT/control those of the same network under the
# same flags on the references, which shows what the translations were worth (CONTROL=0 leaves it out). The student has twelve encoder layers and
# one decoder layer of the Multi30k width; a further flag wins over the one set here. The last step
# translates the test set with all three.
#
# FORWARD: further flags of tsa-mt forward-translate, e.g. FORWARD="--nbest 5 --select reference".
# Run again, every step goes on where it stopped.
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

size=(--arch tree_transformer_multi30k --encoder-layers 12 --decoder-layers 1 --tree chain)
# Every layer normalises its input: deep stacks that do not are hard to start.
size+=(--encoder-normalize-before --decoder-normalize-before)

student() {  # DATA SAVE [flags]: trains on a training set
  mkdir -p "$2"
  fairseq-train "$1" --user-dir "$root/tsa_mt" --task translation "${size[@]}" $embeddings \
    --criterion online_kd --kd-objective independent --label-smoothing 0.1 --dropout 0.1 \
    --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 \
    --lr 0.003 --lr-scheduler inverse_sqrt --warmup-updates 1000 --warmup-init-lr 1e-07 \
    --max-tokens 2048 --required-batch-size-multiple 1 --seed 1 \
    --best-checkpoint-metric loss --patience 5 --no-epoch-checkpoints \
    --no-progress-bar --log-format simple --log-interval 100 \
    --save-dir "$2" "${@:3}" 2>&1 | tee -a "$2/train.log"
}
student "$distilled/data-bin" "$out/student" "$@"
if [ "${CONTROL:-1}" = 1 ]; then student "$data" "$out/control" "$@"; fi

for name in teacher control student; do
  model=$out/$name/checkpoint_best.pt
  if [ "$name" = teacher ]; then model=${teacher%%:*}; fi
  [ -e "$model" ] && compgen -G "$data/test.*.bin" > /dev/null || continue
  fairseq-generate "$data" --user-dir "$root/tsa_mt" --path "$model" --beam 5 --max-tokens 4000 \
    --post-process sentencepiece ${DECODE:-} > "$out/$name.test.log"
  echo "$name: $(tail -n 1 "$out/$name.test.log")"
done
