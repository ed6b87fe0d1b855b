#!/usr/bin/env bash
# Bi-SimCut (Gao et al., NAACL 2022): train with SimCut on both directions of a corpus together, then
# go on with SimCut on one of them.
#
#   run.sh DATA_BIN SOURCE TARGET OUT [further fairseq-train flags for both trainings]
#
# DATA_BIN must have one dictionary for both languages. OUT/both-data is the corpus in both directions,
# OUT/both and OUT/final are the two trainings, of UPDATES (10000) and then FINAL_UPDATES (10000) updates.
# A further flag wins over the one set here, for instance --kd-objective tsa --kd-simcut-weight 3 for leaves
# that teach each other as well. Run again, it goes on where it stopped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi

fail() { echo "run.sh: error: $*" >&2; exit 1; }

[ $# -ge 4 ] || fail "expected DATA_BIN SOURCE TARGET OUT, got $# arguments"
data=$1 source=$2 target=$3 out=$4
shift 4
[ -f "$data/dict.$source.txt" ] || fail "DATA_BIN '$data' holds no dict.$source.txt"
cmp -s "$data/dict.$source.txt" "$data/dict.$target.txt" ||
  fail "the dictionaries of '$data' differ; binarise it with --joined-dictionary"
for tool in fairseq-train tsa-mt; do
  command -v "$tool" > /dev/null || fail "'$tool' is not on PATH; run 'make .venv' in $root first"
done

if [ ! -d "$out/both-data" ]; then
  rm -rf "$out/both-data.partial"
  mkdir -p "$out/both-data.partial"
  cp "$data"/* "$out/both-data.partial"
  # fairseq reads train1 after train: the same pairs the other way round.
  for end in bin idx; do
    for side in "$source $target" "$target $source"; do
      read -r from to <<< "$side"
      cp "$data/train.$source-$target.$from.$end" "$out/both-data.partial/train1.$source-$target.$to.$end"
    done
  done
  mv "$out/both-data.partial" "$out/both-data"
fi

train() {  # DATA SAVE UPDATES [flags]
  mkdir -p "$2"
  fairseq-train "$1" --user-dir "$root/tsa_mt" --task translation -s "$source" -t "$target" \
    --arch tree_transformer_multi30k --tree chain --share-all-embeddings --dropout 0.3 \
    --criterion online_kd --kd-objective simcut --label-smoothing 0.1 \
    --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 \
    --lr 0.003 --lr-scheduler inverse_sqrt --warmup-updates 1000 --warmup-init-lr 1e-07 \
    --max-tokens 2048 --required-batch-size-multiple 1 --seed 1 --max-update "$3" \
    --best-checkpoint-metric loss --no-epoch-checkpoints \
    --no-progress-bar --log-format simple --log-interval 100 \
    --save-dir "$2" "${@:4}" 2>&1 | tee -a "$2/train.log"
}
train "$out/both-data" "$out/both" "${UPDATES:-10000}" "$@"
train "$data" "$out/final" "${FINAL_UPDATES:-10000}" \
  --finetune-from-model "$out/both/checkpoint_best.pt" "$@"
