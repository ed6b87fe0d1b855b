#!/usr/bin/env bash
# Train the plain Transformer, or the same Transformer as the leader of a tree: of leaves that learn
# alone (the control), or of leaves that learn by TSA.
#
#   train.sh plain|control|tsa DATA_BIN SAVE_DIR [further fairseq-train flags, e.g. --seed 2 --fp16]
#
# The runs share every setting but the tree and its objective: `plain` is a chain of four decoder
# layers under the plain task loss, which equals fairseq's own `transformer` architecture of this
# size under `label_smoothed_cross_entropy`. The size is that of the tiny Transformer of Wu et al.
# 2021 (https://aclanthology.org/2021.acl-long.480). Batches of 2,048 tokens, half of theirs, with a
# peak rate of .003 after 1,000 updates need fewer epochs; training stops after 5 epochs without a
# better validation loss (the leader's).
# A further flag wins over the one set here. Run again, it resumes from SAVE_DIR/checkpoint_last.pt.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi

fail() { echo "train.sh: error: $*" >&2; exit 1; }

[ $# -ge 3 ] || fail "expected plain|control|tsa DATA_BIN SAVE_DIR, got $# arguments"
method=$1 data=$2 save=$3
shift 3
case $method in
  plain) tree=(--tree 4 --kd-objective independent) ;;
  control) tree=(--tree tsa --kd-objective independent) ;;
  tsa) tree=(--tree tsa --kd-objective tsa) ;;
  *) fail "method '$method' is unknown; choose plain, control or tsa" ;;
esac
[ -f "$data/dict.de.txt" ] || fail "DATA_BIN '$data' holds no dict.de.txt; run prepare.sh first"
command -v fairseq-train > /dev/null || fail "'fairseq-train' is not on PATH; run 'make .venv' in $root first"

mkdir -p "$save"
fairseq-train "$data" --user-dir "$root/tsa_mt" --task translation \
  --source-lang en --target-lang de \
  --arch tree_transformer_multi30k --share-all-embeddings --dropout 0.3 \
  --criterion online_kd "${tree[@]}" --label-smoothing 0.1 \
  --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --weight-decay 0.0 \
  --lr 0.003 --lr-scheduler inverse_sqrt --warmup-updates 1000 --warmup-init-lr 1e-07 \
  --max-tokens 2048 --required-batch-size-multiple 1 --seed 1 \
  --best-checkpoint-metric loss --patience 5 --keep-last-epochs 10 \
  --no-progress-bar --log-format simple --log-interval 100 \
  --save-dir "$save" "$@" 2>&1 | tee -a "$save/train.log"
