#!/usr/bin/env bash
# ONE (Lan et al., NeurIPS 2018): a gated ensemble teaches its branches; three
# branches, weight decay 1e-4, no Nesterov momentum, TSA's normalisation. Published: 73.39 %.
#
#   one.sh DATA SAVE_DIR [further fairseq-train flags]        (environment: see recipe.sh)
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" one --kd-objective one --tree '10(5,5,5)' --augment tsa --weight-decay 1e-4 -- "$@"
