#!/usr/bin/env bash
# AHBF-OKD (Gong et al., AAAI 2023): branches of 5, 9, 13 and 17 blocks fused level by level; ramp-up
# over 240 of 300 epochs. Its number for ResNet-32 is not known to us; 73.9 % in a third-party log.
#
#   ahbf.sh DATA SAVE_DIR [further fairseq-train flags]        (environment: see recipe.sh)
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" ahbf --kd-objective ahbf --tree ladder --nesterov -- "$@"
