#!/usr/bin/env bash
# The plain network: the baseline of every row. Published for ResNet-32 on CIFAR-100: 68.8 to 71.1 %.
#
#   plain.sh DATA SAVE_DIR [further fairseq-train flags]        (environment: see recipe.sh)
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" plain --kd-objective independent --tree chain --nesterov -- "$@"
