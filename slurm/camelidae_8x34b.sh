#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Camelidae-8x34B from Yi-34B: sbatch slurm/camelidae_8x34b.sh [STAGE …] [OTHER.ini] [--section.key=value …]
# From the dense model to the exported mixture; the same line goes on where an earlier job ended. What your site needs
# comes from slurm/site.env (see site.example.env); inputs/camelidae_8x34b.ini names the variables to export.
# Not yet run on a GPU: the sizes are for CPU nodes with 256 GB of memory and 64 cores.
#SBATCH --job-name=camelidae_8x34b
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@900
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
for folder in "${CARAVAN_PREFIX:-${SLURM_SUBMIT_DIR:?submit this file with sbatch}}"/{,share/caravan/}slurm; do
  [ ! -x "$folder/run.sh" ] || exec "$folder/run.sh" camelidae_8x34b.ini "$@"
done
echo "slurm/run.sh is not in ${CARAVAN_PREFIX:-$SLURM_SUBMIT_DIR}: submit in the folder that holds slurm/, or set CARAVAN_PREFIX" >&2
exit 2
