#!/usr/bin/env bash
# OKDDip (Chen et al., AAAI 2020): three peers with attention and a leader on a shared trunk; ramp-up
# over 80 of 300 epochs. Published: 74.35 % +- 0.15.
#
#   okddip.sh DATA SAVE_DIR [further fairseq-train flags]        (environment: see recipe.sh)
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" okddip --kd-objective okddip --tree fork --nesterov -- "$@"
