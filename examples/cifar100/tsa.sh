#!/usr/bin/env bash
# TSA (Lin et al., IJCNN 2022): 1-2-4 tree, pairwise distillation, no Nesterov momentum, its own
# normalisation. The paper gives +3 to +4 points over plain networks on CIFAR-100.
#
#   tsa.sh DATA SAVE_DIR [further fairseq-train flags]        (environment: see recipe.sh)
set -euo pipefail
exec "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" tsa --kd-objective tsa --tree tsa --augment tsa -- "$@"
