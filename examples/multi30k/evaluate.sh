#!/usr/bin/env bash
# Translate and score the three Multi30k test sets with a trained model's leader.
#
#   evaluate.sh SAVE_DIR DATA_BIN RAW       (RAW: the raw folder that prepare.sh wrote)
#   BRANCH=K evaluate.sh ...                leaf K instead of the leader; -1: all leaves together
#
# Three models are scored, all chosen without looking at a test set: the checkpoint with the best
# validation loss, the last one, and the average of the last ten epoch checkpoints. Beam 5, length
# penalty 1. Writes SAVE_DIR/results/{best,last,average10}[.branchK].{test_set}.{log,json}, which
# `tsa-mt compare` and `tsa-mt report` read.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi

fail() { echo "evaluate.sh: error: $*" >&2; exit 1; }

[ $# -eq 3 ] || fail "expected SAVE_DIR DATA_BIN RAW, got $# arguments"
save=$1 data=$2 raw=$3
[ -f "$save/checkpoint_best.pt" ] || fail "$save/checkpoint_best.pt is missing; run train.sh first"
[ -f "$data/dict.de.txt" ] || fail "DATA_BIN '$data' holds no dict.de.txt; run prepare.sh first"
for tool in fairseq-generate tsa-mt; do
  command -v "$tool" > /dev/null || fail "'$tool' is not on PATH; run 'make .venv' in $root first"
done

results=$save/results
mkdir -p "$results"
branch=${BRANCH:-0}
suffix=''
[ "$branch" = 0 ] || suffix=.branch$branch
average=$save/checkpoint_average10.pt
last=$(ls "$save"/checkpoint[0-9]*.pt | wc -l)
if [ ! -f "$average" ] || [ "$save/checkpoint_last.pt" -nt "$average" ]; then
  tsa-mt average "$save" --out "$average" --last "$((last < 10 ? last : 10))" --force
fi

sets=(test_2016_flickr test_2017_flickr test_2017_mscoco)
subsets=(test test1 test2)
for model in best last average10; do
  for i in "${!sets[@]}"; do
    set=${sets[$i]}
    name=$results/$model$suffix.$set
    fairseq-generate "$data" --user-dir "$root/tsa_mt" --task translation \
      --source-lang en --target-lang de --gen-subset "${subsets[$i]}" \
      --path "$save/checkpoint_$model.pt" --model-overrides "{'decode_branch': $branch}" \
      --beam 5 --lenpen 1 --remove-bpe sentencepiece \
      --max-tokens 8192 --required-batch-size-multiple 1 > "$name.log" 2> "$name.err" ||
      { tail -n 5 "$name.err" >&2; fail "fairseq-generate failed on $set, see $name.err"; }
    echo "== $model$suffix, $set"
    tsa-mt score --generate-log "$name.log" --ref "$raw/$set.de" --json "$name.json"
  done
done
