#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Camelidae-8x7B from Llama-2-7B: sbatch slurm/camelidae_8x7b.sh [STAGE …] [OTHER.ini] [--section.key=value …]
# From the dense model to the exported mixture; the same line goes on where an earlier job ended. What your site needs
# comes from slurm/site.env (see site.example.env); inputs/camelidae_8x7b.ini names the variables to export.
# Not yet run on a GPU: the sizes are for CPU nodes with 256 GB of memory and 64 cores.
#SBATCH --job-name=camelidae_8x7b
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@900
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# Caravan is where CARAVAN_PREFIX says, else where the program on PATH is installed, else in the folder of the submission.
# That one may be anybody's: it is taken only if nobody but its owner can write there.
here=${SLURM_SUBMIT_DIR:?submit this file with sbatch}
installed=$(command -v caravan) || installed=''
for prefix in "${CARAVAN_PREFIX:-${installed%/bin/caravan}}" "${CARAVAN_PREFIX:-$here}"; do
  for folder in "$prefix"/{,share/caravan/}slurm; do
    [ -n "$prefix" ] || continue
    [ -x "$folder/run.sh" ] || continue
    if [ -z "${CARAVAN_PREFIX:-}" ] && [ "$prefix" = "$here" ]; then
      unsafe=$(find -L "$here" "$here"/{build,bin}{,/caravan} "$folder" "$folder"/* -maxdepth 0 \
        \( -perm -002 -o -perm -020 ! -gid "$(id -u)" -o ! -uid "$(id -u)" ! -uid 0 \) -print -quit 2>/dev/null)
      [ -z "$unsafe" ] || {
        echo "others can write to $unsafe, and this job would run what they put there: take that right away (chmod go-w), or set CARAVAN_PREFIX to where Caravan is" >&2
        exit 2
      }
    fi
    break 2
  done
done
[ ! -x "$folder/run.sh" ] || exec "$folder/run.sh" camelidae_8x7b.ini "$@"
echo "slurm/run.sh is not in ${CARAVAN_PREFIX:-$here}: submit in the folder that holds slurm/, or set CARAVAN_PREFIX" >&2
exit 2
