#!/usr/bin/env bash
# Multi30k task 1, English to German: raw text -> joint subword model -> fairseq data.
#
#   prepare.sh OUT               download the raw text from github.com/multi30k/dataset
#   prepare.sh LOCAL_DIR OUT     take train.en.gz, train.de.gz, val.*, test_*.* from LOCAL_DIR
#
# Writes OUT/raw (checked raw text, also the references for scoring), OUT/pieces (encoded text)
# and OUT/data-bin (fairseq data and sentencepiece.bpe.model, which is written last: its presence
# means "complete"). Run again, it does nothing when OUT is complete and starts over when not.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
if [ -d "$root/.venv/bin" ]; then PATH="$root/.venv/bin:$PATH"; fi

url=https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw
vocabulary=8000
splits=(train val test_2016_flickr test_2017_flickr test_2017_mscoco)
lines=(29000 1014 1000 1000 461)

fail() { echo "prepare.sh: error: $*" >&2; exit 1; }

case $# in
  1) local_dir='' ; out=$1 ;;
  2) local_dir=$1 ; out=$2 ;;
  *) fail "expected [LOCAL_DIR] OUT, got $# arguments; the head of $here/prepare.sh explains" ;;
esac
[ -z "$local_dir" ] || [ -d "$local_dir" ] ||
  fail "LOCAL_DIR '$local_dir' is not a folder; leave it out to download the text"
for tool in python fairseq-preprocess; do
  command -v "$tool" > /dev/null || fail "'$tool' is not on PATH; run 'make .venv' in $root first"
done

model=$out/data-bin/sentencepiece.bpe.model
if [ -f "$model" ]; then
  echo "prepare.sh: $out/data-bin is complete, nothing to do"
  exit 0
fi
mkdir -p "$out/raw" "$out/pieces"
rm -rf "$out/data-bin"

# Raw text, each file checked against its published content.
fetch() { # NAME TARGET
  if [ -n "$local_dir" ]; then
    [ -f "$local_dir/$1.gz" ] || fail "$local_dir/$1.gz is missing"
    gzip -dc "$local_dir/$1.gz" > "$2"
  else
    curl --fail --silent --show-error --location --retry 3 "$url/$1.gz" | gzip -dc > "$2" ||
      fail "cannot download $url/$1.gz; get the folder elsewhere and pass it as LOCAL_DIR"
  fi
}
for i in "${!splits[@]}"; do
  for language in en de; do
    name=${splits[$i]}.$language
    [ -f "$out/raw/$name" ] || { fetch "$name" "$out/raw/.$name" && mv "$out/raw/.$name" "$out/raw/$name"; }
    count=$(wc -l < "$out/raw/$name")
    [ "$count" -eq "${lines[$i]}" ] ||
      fail "$out/raw/$name has $count lines, expected ${lines[$i]}; delete it and run again"
  done
done
python - "$here/SHA256SUMS" "$out/raw" <<'PYTHON' || fail "the raw text is not the published one"
import hashlib, pathlib, sys
raw = pathlib.Path(sys.argv[2])
wrong = [name for digest, name in map(str.split, open(sys.argv[1]))
         if hashlib.sha256((raw / name).read_bytes()).hexdigest() != digest]
sys.exit("prepare.sh: wrong SHA-256: " + ", ".join(wrong) if wrong else 0)
PYTHON
echo "prepare.sh: raw text checked"

# One joint subword model on the training text alone; one thread, so that it never varies.
python - "$out" "$vocabulary" "${splits[@]}" <<'PYTHON'
import pathlib, sys
import sentencepiece
out, vocabulary, splits = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
sentencepiece.SentencePieceTrainer.train(
    input=[str(out / "raw" / f"train.{language}") for language in ("en", "de")],
    model_prefix=str(out / "pieces" / "spm"), model_type="bpe", vocab_size=vocabulary,
    character_coverage=1.0, num_threads=1, minloglevel=1)
spm = sentencepiece.SentencePieceProcessor(model_file=str(out / "pieces" / "spm.model"))
for split in splits:
    for language in ("en", "de"):
        text = (out / "raw" / f"{split}.{language}").read_text(encoding="utf-8")
        with open(out / "pieces" / f"{split}.{language}", "w", encoding="utf-8") as target:
            for line in text.removesuffix("\n").split("\n"):
                target.write(" ".join(spm.encode(line, out_type=str)) + "\n")
PYTHON
for i in "${!splits[@]}"; do
  for language in en de; do
    count=$(wc -l < "$out/pieces/${splits[$i]}.$language")
    [ "$count" -eq "${lines[$i]}" ] ||
      fail "$out/pieces/${splits[$i]}.$language has $count lines, expected ${lines[$i]}"
  done
done

fairseq-preprocess --source-lang en --target-lang de --joined-dictionary \
  --trainpref "$out/pieces/train" --validpref "$out/pieces/val" \
  --testpref "$out/pieces/test_2016_flickr,$out/pieces/test_2017_flickr,$out/pieces/test_2017_mscoco" \
  --destdir "$out/data-bin" > "$out/preprocess.out" 2>&1 ||
  { tail -n 5 "$out/preprocess.out" >&2; fail "fairseq-preprocess failed, see $out/preprocess.out"; }
cp "$out/pieces/spm.model" "$model.tmp"
mv "$model.tmp" "$model"
echo "prepare.sh: $out/data-bin is ready: train, valid, test (2016 flickr), test1 (2017 flickr)," \
  "test2 (2017 mscoco); $(wc -l < "$out/data-bin/dict.en.txt") dictionary entries"
