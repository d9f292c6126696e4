#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# --help, --version and --dump-config say what they should, once, and end with 0; what --dump-config prints can be read
# back to the same. upcycle over the same model changes nothing.
. "$(dirname -- "${BASH_SOURCE[0]}")/../faults/common.sh"

make_origin 2 1 1 1 1
config=$work/config.ini
expect_silent_stderr() { [ ! -s "$work/stderr" ] || { cat -- "$work/stderr"; fail "$1 complains"; }; }
ask() { "$binary" "$@" >"$work/output" 2>"$work/stderr" </dev/null || fail "$*: exit $?"; expect_silent_stderr "$*"; }

for question in --help -h 'train --help' ''; do
  read -r -a words <<<"$question"
  ask "${words[@]}"
  for text in 'usage: caravan COMMAND CONFIG' 'caravan info PATH [--tensors]' 'caravan verify --model=DIR' upcycle prepare evaluate 'Exit codes: 0 done' --layout.tp=1 --train.lr=; do
    expect_output "$text"
  done
done
ask --version
grep -qE '^caravan [0-9]+\.[0-9]+\.[0-9]+' "$work/output" || fail "--version does not begin with the version"

ask train "$config" --dump-config --train.lr=0.004
cp -- "$work/output" "$work/dumped.ini"
expect_output 'lr = 0.004'
expect_output 'tp = 1'
ask train "$work/dumped.ini" --dump-config
cmp -- "$work/output" "$work/dumped.ini" || fail "--dump-config does not read back to the same"

"$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n 4 "$binary" --help >"$work/output" 2>&1 || fail "--help on 4 ranks: exit $?"
[ "$(grep -c '^usage:' "$work/output")" -eq 1 ] || fail "--help on 4 ranks is not printed once"

stamps() { find "$work/origin" -type f -printf '%p %s %T@\n' | sort; }
before=$(stamps)
ask upcycle "$config"
expect_output 'already holds this model; nothing was written'
[ "$before" = "$(stamps)" ] || fail "upcycle over the same model wrote something"

# Ranks that srun starts and this MPI does not find are refused; those of mpirun in a step of srun, which it starts for
# its daemons, are not.
ended=0
SLURM_STEP_NUM_TASKS=4 "$binary" upcycle "$config" >"$work/output" 2>&1 || ended=$?
[ "$ended" -eq 2 ] || fail "4 ranks alone: exit $ended instead of 2"
for text in 'error: 4 ranks were started, but each is alone' 'srun --mpi=list' CARAVAN_LAUNCH; do expect_output "$text"; done
SLURM_STEP_NUM_TASKS=1 "$binary" upcycle "$config" >"$work/output" 2>&1 || fail "a step of one task: exit $?"
SLURM_STEP_NUM_TASKS=4 "$CARAVAN_MPIEXEC" "${mpi_flags[@]}" -n 1 "$binary" upcycle "$config" >"$work/output" 2>&1 ||
  fail "mpirun in a step of srun: exit $?"
say "done"
