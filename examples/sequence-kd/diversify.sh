#!/usr/bin/env bash
# Data diversification (Nguyen et al., NeurIPS 2020): train K models forward and K backward, let each
# translate the training set, and train on everything together.
#
#   diversify.sh DATA_BIN SOURCE TARGET OUT [further fairseq-train flags for all trainings]
#
# K (2) models differ in their seed. OUT/forward-N and OUT/backward-N are the models, OUT/merged/data-bin
# is the training set with every pair once, OUT/final the model trained on it. FORWARD holds further
# flags of tsa-mt forward-translate. Run again, every step goes on where it stopped.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi

fail() { echo "diversify.sh: error: $*" >&2; exit 1; }

[ $# -ge 4 ] || fail "expected DATA_BIN SOURCE TARGET OUT, got $# arguments"
data=$1 source=$2 target=$3 out=$4
shift 4
k=${K:-2}
[ "$k" -ge 1 ] 2> /dev/null || fail "K is '$k'; it must be a number from 1 on"
[ -f "$data/dict.$target.txt" ] || fail "DATA_BIN '$data' holds no dict.$target.txt"
for tool in fairseq-train tsa-mt; do
  command -v "$tool" > /dev/null || fail "'$tool' is not on PATH; run 'make .venv' in $root first"
done
embeddings=--share-decoder-input-output-embed
if cmp -s "$data/dict.$source.txt" "$data/dict.$target.txt"; then embeddings=--share-all-embeddings; fi
read -r -a forward <<< "${FORWARD:-}"

train() {  # DATA SOURCE TARGET SAVE SEED [flags]
  mkdir -p "$4"
  fairseq-train "$1" --user-dir "$root/tsa_mt" --task translation -s "$2" -t "$3" \
    --arch tree_transformer_multi30k --tree chain $embeddings \
    --criterion online_kd --kd-objective independent --label-smoothing 0.1 --dropout 0.3 \
    --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 \
    --lr 0.003 --lr-scheduler inverse_sqrt --warmup-updates 1000 --warmup-init-lr 1e-07 \
    --max-tokens 2048 --required-batch-size-multiple 1 --seed "$5" \
    --best-checkpoint-metric loss --patience 5 --no-epoch-checkpoints \
    --no-progress-bar --log-format simple --log-interval 100 \
    --save-dir "$4" "${@:6}" 2>&1 | tee -a "$4/train.log"
}

parts=()
translated() {  # SOURCE TARGET NAME SEED [flags]: a model, and the training set as it translates it
  train "$data" "$1" "$2" "$out/$3" "$4" "${@:5}"
  if [ ! -d "$out/$3.data/data-bin" ]; then
    tsa-mt forward-translate "$data" "$out/$3.data" -s "$1" -t "$2" \
      --teacher "$out/$3/checkpoint_best.pt" "${forward[@]}"
  fi
  parts+=("$out/$3.data/data-bin")
}
for seed in $(seq "$k"); do
  translated "$source" "$target" "forward-$seed" "$seed" "$@"
  translated "$target" "$source" "backward-$seed" "$seed" "$@"
done

if [ ! -d "$out/merged/data-bin" ]; then
  tsa-mt merge-data "$out/merged" "$data" "${parts[@]}" -s "$source" -t "$target"
fi
train "$out/merged/data-bin" "$source" "$target" "$out/final" 1 "$@"
