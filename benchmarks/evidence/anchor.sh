#!/usr/bin/env bash
# The anchor: the recipe of Wu et al. 2021 (https://aclanthology.org/2021.acl-long.480) on Multi30k.
#
#   anchor.sh DATA WORK RUN SEED [further fairseq-train flags]
#
# Tokenised, lower-cased text, 10,000 joint BPE merges, 8,192 tokens an update, rate .005 after 2,000
# updates, 8,000 updates, average of the last ten checkpoints, beam 5. Scores are BLEU of tokenised,
# lower-cased text, as published: 41.02 on test_2016_flickr in their repository
# (https://github.com/LividWo/Revisit-MMT). Started again, it goes on where it was.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi
[ $# -ge 4 ] || { echo "anchor.sh: error: expected DATA WORK RUN SEED, got $# arguments" >&2; exit 1; }
data=$1 work=$2 run=$3 seed=$4
shift 4

corpus=$work/corpora/anchor
python "$root/data-prep/prepare.py" multi30k-en-de --preparation published \
  --from-local "$data/multi30k" --out "$corpus"
fairseq-train "$corpus/data-bin" --user-dir "$root/tsa_mt" --task translation \
  --source-lang en --target-lang de --arch tree_transformer_multi30k --share-all-embeddings --cpu \
  --criterion online_kd --kd-objective independent --tree 4 --label-smoothing 0.1 --dropout 0.3 \
  --optimizer adam --adam-betas '(0.9, 0.98)' --lr 0.005 --lr-scheduler inverse_sqrt \
  --warmup-updates 2000 --warmup-init-lr 1e-07 --max-tokens 4096 --update-freq 2 \
  --max-update 8000 --required-batch-size-multiple 1 --seed "$seed" --num-workers 0 \
  --keep-last-epochs 10 --no-progress-bar --log-format simple --log-interval 100 \
  --save-dir "$run" "$@"
tsa-mt average "$run" --out "$run/checkpoint_average10.pt" --last 10 --force

mkdir -p "$run/results"
number=0
for set in test test1 test2; do
  name=$(cut -d' ' -f$((number += 1)) <<< "test_2016_flickr test_2017_flickr test_2017_mscoco")
  log=$run/results/average10.$name.log
  fairseq-generate "$corpus/data-bin" --user-dir "$root/tsa_mt" --path "$run/checkpoint_average10.pt" \
    --gen-subset "$set" --source-lang en --target-lang de --cpu --beam 5 --lenpen 1 \
    --remove-bpe --max-tokens 8192 --required-batch-size-multiple 1 > "$log"
  tsa-mt score --generate-log "$log" --ref "$corpus/text/$set.de" --tokenize none \
    --json "${log%.log}.json"
  gzip -9nf "$log"
done
