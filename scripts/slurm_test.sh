#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The job files of slurm/ on a real Slurm: starts one on this machine, with 4 virtual nodes, beside any that is there,
# submits them on a tiny model, disturbs them, and compares what they computed with an undisturbed run, bit for bit.
# Some minutes on 2 cores. Installs nothing: where Slurm's packages are missing it names them and ends with 77.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
export CARAVAN_SOURCE=$root CARAVAN_BINARY=${CARAVAN_BINARY:-$root/build/caravan}
. "$root/tests/slurm/cluster.sh"
mapfile -t missing < <(missing_cluster_packages)
if [ ${#missing[@]} -gt 0 ]; then
  echo "slurm_test.sh: skipped, Slurm is missing: apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 77
fi
if [ ! -x "$CARAVAN_BINARY" ]; then
  echo "slurm_test.sh: there is no $CARAVAN_BINARY: run scripts/build.sh first" >&2
  exit 2
fi
. "$root/tests/faults/common.sh"
. "$root/tests/slurm/jobs.sh"
. "$root/tests/slurm/cases.sh"

limit=1500  # seconds: what a killed script started would stay, so it ends by itself before a test runner kills it
timer=
end() {
  [ -z "$timer" ] || kill "$timer" 2>/dev/null || true
  stop_cluster
  clean_up
}
trap end EXIT
chmod 711 "$work"
(
  exec >/dev/null 2>&1
  trap 'kill "$!"; exit' TERM
  sleep "$limit" &
  wait
  kill -TERM "$$"
) &
timer=$!
trap 'say "FAILED: not done in $limit s" >&2; exit 1' TERM

# An installed tree and a source tree, in which the job files must find the program, the body and the configurations.
mkdir -p -- "$work/submit/build" "$work/installed/bin" "$work/installed/share/caravan"
for folder in installed/bin submit/build; do write_program "$work/$folder/caravan"; done
for folder in installed/share/caravan submit; do ln -s -- "$root/slurm" "$root/inputs" "$work/$folder/"; done
echo "echo \"the test's site file\"" >"$work/site.env"
export CARAVAN_PREFIX=$work/installed CARAVAN_SITE=$work/site.env
job_files=$work/installed/share/caravan/slurm
steps=12

# Open MPI among nodes that are one machine: over loopback, many ranks on few cores, perhaps as root.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
  OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo \
  OMPI_MCA_mpi_yield_when_idle=1

start_cluster "$work/cluster" 4 4 || { tail -n 20 -- "$work"/cluster/*.log "$work"/cluster/*.output >&2; fail "Slurm did not start"; }
first_node=$(node_name 1)

# run_case NAME [ARGUMENTS]
run_case() {
  local began=$SECONDS
  case_name=$1
  name=$1
  export CARAVAN_RUN=$work/$1
  "case_$1" "${@:2}"
  printf '%-16s ok %4d s\n' "$1" $((SECONDS - began))
}
cases=("$@")
[ ${#cases[@]} -gt 0 ] || cases=(half_done time_limit stopped_early preempted preempted_at_once node_down rank_killed rank_hung cancelled
  no_requeue array no_progress most_restarts)
run_case finished
for case in "${cases[@]}"; do
  run_case "$case" "$first_node"
done
