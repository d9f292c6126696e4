#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Camelidae-8x7B from Llama-2-7B: sbatch [--account=… --partition=…] slurm/camelidae_8x7b.sh [SUBCOMMAND]
# Submit it in the folder that holds slurm/ and inputs/ (or set CARAVAN_HOME to that folder), first with upcycle and
# prepare, then without an argument to train. What the site needs (modules, CARAVAN_LAUNCH) belongs in the submitting
# shell; inputs/camelidae_8x7b.ini names the variables to export. Not yet run on a GPU: the sizes are for CPU nodes
# with 256 GB of memory and 64 cores.
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
home=${CARAVAN_HOME:-${SLURM_SUBMIT_DIR:?submit this file with sbatch}}
exec "$home/slurm/run.sh" "${1:-train}" "$home/inputs/camelidae_8x7b.ini" "${@:2}"
