#!/usr/bin/env bash
# DML (Zhang et al., CVPR 2018) with four whole networks, pairwise, no temperature.
#
#   dml.sh DATA SAVE_DIR [further fairseq-train flags]        (environment: see recipe.sh)
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" dml --kd-objective dml --tree peers --nesterov -- "$@"
