#!/usr/bin/env bash
# SOKD (Liu et al., BMVC 2021): WRN-40-2 teaches WRN-40-1 through a bridge. The teacher is trained as
# the paper's own script trains it, without Nesterov momentum, unless TEACHER names its checkpoint.
#
#   sokd.sh DATA SAVE_DIR [further fairseq-train flags]        (environment: see recipe.sh; EPOCHS is 200)
#
# The flags go to both trainings; the teacher is saved in SAVE_DIR/teacher.
set -euo pipefail
recipe=$(dirname "${BASH_SOURCE[0]}")/recipe.sh
export EPOCHS=${EPOCHS:-200}
if [ -z "${TEACHER:-}" ] && [ $# -ge 2 ]; then
  ARCH=${TEACHER_ARCH:-tree_wrn40_2} "$recipe" teacher --kd-objective independent --tree chain \
    --augment sokd -- "$1" "$2/teacher" "${@:3}"
  TEACHER=$2/teacher/checkpoint_best.pt
  if [ ! -e "$TEACHER" ]; then TEACHER=$2/teacher/checkpoint_last.pt; fi  # nothing was held out
fi
ARCH=${ARCH:-tree_wrn40_1} exec "$recipe" sokd --kd-objective sokd --kd-teacher "${TEACHER:-}" \
  --augment sokd -- "$@"
