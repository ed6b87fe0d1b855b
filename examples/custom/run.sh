#!/usr/bin/env bash
# From your own two text files to a model that ships, in one command.
#
#   run.sh SOURCE TARGET OUT [further fairseq-train flags]
#
# SOURCE and TARGET hold one sentence a line, line by line translations of each other, plain or
# compressed; their names end in the language codes (news.en news.de, news.en.gz news.de.gz).
# OUT/data      clean text, subword model, binarised data; 1 % is held out to validate, 1 % to test
# OUT/run       checkpoints, training log, translations and scores of the test split
# OUT/model     the leader as a plain fairseq Transformer, with dictionaries and subword model
# OUT/model-ct2 the same for CTranslate2
# VOCABULARY (8000) and ARCH (tree_transformer_iwslt_de_en) come from the environment. Started
# again, it goes on where it was stopped; a finished training is not repeated.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi

fail() { echo "run.sh: error: $*" >&2; exit 1; }

language() { # of a file, from its name
  local name=${1##*/}
  case $name in *.gz | *.xz | *.bz2 | *.zst) name=${name%.*} ;; esac
  case $name in *.*) echo "${name##*.}" ;; *) fail "'$1' has no language at the end of its name, like news.en" ;; esac
}

[ $# -ge 3 ] || fail "expected SOURCE TARGET OUT, got $# arguments; the head of $here/run.sh explains"
source_file=$1 target_file=$2 out=$3
shift 3
for file in "$source_file" "$target_file"; do [ -f "$file" ] || fail "'$file' does not exist"; done
for tool in fairseq-train fairseq-generate tsa-mt; do
  command -v "$tool" > /dev/null || fail "'$tool' is not on PATH; run 'make .venv' in $root first"
done
source_lang=$(language "$source_file")
target_lang=$(language "$target_file")
data=$out/data/data-bin
run=$out/run

echo "== prepare"
hold_out="{hold_out: {per_mille: 10, by: $source_lang}}"
python "$root/data-prep/prepare.py" custom --out "$out/data" \
  --source-lang "$source_lang" --target-lang "$target_lang" --train "$source_file" "$target_file" \
  --set "splits.valid=$hold_out" --set "splits.test=$hold_out" \
  --set "preparations.modern.subword.sentencepiece.vocab_size=${VOCABULARY:-8000}"

echo "== train"
mkdir -p "$run"
if [ ! -f "$run/trained" ]; then
  fairseq-train "$data" --user-dir "$root/tsa_mt" --task translation \
    --source-lang "$source_lang" --target-lang "$target_lang" \
    --arch "${ARCH:-tree_transformer_iwslt_de_en}" --share-all-embeddings --dropout 0.3 \
    --criterion online_kd --kd-objective tsa --label-smoothing 0.1 \
    --optimizer adam --adam-betas '(0.9, 0.98)' --weight-decay 0.0001 \
    --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 4000 --warmup-init-lr 1e-07 \
    --max-tokens 4096 --required-batch-size-multiple 1 --seed 1 \
    --patience 5 --keep-last-epochs 5 --log-format simple --log-interval 20 \
    --save-dir "$run" "$@" 2>&1 | tee -a "$run/train.log"
  touch "$run/trained"
fi

echo "== translate the test split"
fairseq-generate "$data" --user-dir "$root/tsa_mt" --path "$run/checkpoint_best.pt" \
  --source-lang "$source_lang" --target-lang "$target_lang" --beam 5 --remove-bpe sentencepiece \
  --max-tokens 4096 --required-batch-size-multiple 1 > "$run/test.log" 2> "$run/test.err" ||
  { tail -n 5 "$run/test.err" >&2; fail "fairseq-generate failed, see $run/test.err"; }
tsa-mt score --generate-log "$run/test.log" --ref "$out/data/text/test.$target_lang" \
  --json "$run/test.json"

echo "== export"
cp "$out/data/subword/sentencepiece.bpe.model" "$data/"  # where the export looks for it
tsa-mt export "$run/checkpoint_best.pt" "$out/model" --to fairseq --data "$data" --force
tsa-mt export "$out/model" "$out/model-ct2" --to ctranslate2 --force
