#!/usr/bin/env bash
# Everything that only a GPU can show, unattended, in under 9 minutes on a bare machine:
#
#     benchmarks/gpu.sh            # on a machine with a GPU
#     benchmarks/gpu.sh --cpu      # the same steps, small, so that nothing but the device is untested
#
# PYTHON names the interpreter (default: python3). A machine without internet takes its packages from
# the folder in WHEELS, if that is set. Results go to $OUT (default: gpu-results): one log per step, and
# summary.md. A step that fails does not keep the others from running; the script ends with 1 if any did.
set -uo pipefail
cd "$(dirname "$0")/.."
device=cuda; [ "${1:-}" = --cpu ] && device=cpu
out=${OUT:-gpu-results}; mkdir -p "$out"
python=${PYTHON:-python3}
failed=0

if [ -n "${WHEELS:-}" ]; then
    $python -m pip install -q --no-index --no-deps --no-compile --target "$out/site" "$WHEELS"/*.whl
    export PYTHONPATH="$out/site:${PYTHONPATH:-}" PATH="$out/site/bin:$PATH"
fi

step() {  # name, seconds it may take, command: runs it, keeps its output, says how it went
    local name=$1 limit=$2 began=$SECONDS; shift 2
    if timeout "$limit" "$@" > "$out/$name.log" 2>&1; then state=done; else state="FAILED ($?)"; failed=1; fi
    echo "| $name | $state | $((SECONDS - began)) s |" | tee -a "$out/summary.md"
}

printf '| step | state | time |\n|---|---|---|\n' > "$out/summary.md"
step tests   150 $python -m pytest -q -m gpu tests/test_head.py tests/test_plan.py
step head    150 $python benchmarks/gpu.py head --device "$device"
step update  100 $python benchmarks/gpu.py update --device "$device"
step resume  120 $python benchmarks/gpu.py resume "$out/training" --device "$device"
for name in head update; do
    printf '\n' >> "$out/summary.md"; grep '^|' "$out/$name.log" >> "$out/summary.md"
done
exit $failed
