#!/usr/bin/env bash
# Unpack CIFAR-100 (or CIFAR-10) once, so that a training starts in a second instead of ten.
#
#   prepare.sh ARCHIVE OUT        e.g. prepare.sh cifar-100-python.tar.gz data/cifar100
#
# ARCHIVE is the makers' "python version" (https://www.cs.toronto.edu/~kriz/cifar.html), packed with
# gzip or xz. Training checks the MD5 of every file it reads.
set -euo pipefail

fail() { echo "prepare.sh: error: $*" >&2; exit 1; }

[ $# -eq 2 ] || fail "expected ARCHIVE OUT, got $# arguments"
archive=$1 out=$2
[ -f "$archive" ] || fail "ARCHIVE '$archive' does not exist"
if [ -d "$out/cifar-100-python" ] || [ -d "$out/cifar-10-batches-py" ]; then
  echo "$out is complete, nothing to do"
  exit 0
fi
mkdir -p "$out"
partial=$(mktemp -d "$out/.partial.XXXXXX")
trap 'rm -rf "$partial"' EXIT
tar -xf "$archive" -C "$partial" || fail "ARCHIVE '$archive' is damaged; fetch it again"
for name in cifar-100-python cifar-10-batches-py; do
  [ ! -d "$partial/$name" ] || found=$name
done
[ -n "${found:-}" ] || fail "ARCHIVE '$archive' holds neither cifar-100-python nor cifar-10-batches-py"
mv "$partial/$found" "$out/$found"
echo "$out/$found is ready"
