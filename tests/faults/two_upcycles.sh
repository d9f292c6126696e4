#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two upcycles never write one step 0: the second is refused and changes nothing, and no lock stays. What a killed one
# left blocks nobody. A step 0 that is there needs no lock, and may be read-only.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 4 2 1 1 1
reference=$(checkpoint_folder origin 0)
# The manifest has the checksums of all tensors, which are compared with the files; these have times in them.
expect_step_0() {
  expect 0 1 info --verify "$1"
  diff -r -x '*.h5' -- "$reference" "$1" >"$work/difference" || fail "$1 differs from what an undisturbed upcycle writes: $(head -n 3 -- "$work/difference")"
}

stamps() { find "$1" -printf '%p %s %T@\n' | sort; }

# upcycle_twice NAME FOLDER ARGUMENTS…: the first stands still while it saves, and the second comes. On a fast machine the
# first may be done before it is seen: then once more.
upcycle_twice() {
  local name=$1 folder=$2 ended=0 before attempt
  shift 2
  for ((attempt = 0; attempt < 30; ++attempt)); do
    rm -rf -- "$folder"
    start_in_background upcycle "$@"
    while [ ! -e "$folder/shard-00000.h5" ]; do run_for 0.002 || break; done
    [ -e "$folder/manifest.json" ] || break
    go_on
    wait_for_end
    [ "$status" -eq 0 ] || fail "$name: upcycle ended with $status"
  done
  is_running || fail "$name: upcycle was never seen while it saved"
  before=$(stamps "$folder")
  "$binary" upcycle "$work/config.ini" "$@" >"$work/second" 2>&1 </dev/null || ended=$?
  [ "$ended" -eq 2 ] || { cat -- "$work/second"; fail "$name: the second upcycle ended with $ended instead of 2"; }
  grep -q "$folder is in use by process [0-9]* on $(uname -n), outside of Slurm: that process runs" "$work/second" ||
    { cat -- "$work/second"; fail "$name: the message does not say who is at work"; }
  [ "$before" = "$(stamps "$folder")" ] || fail "$name: the second upcycle changed the folder"
}

upcycle_twice run "$(checkpoint_folder both 0)" "--run.folder=$work/both"
go_on
wait_for_end
[ "$status" -eq 0 ] || fail "the first upcycle ended with $status"
expect_step_0 "$(checkpoint_folder both 0)"
say "a second upcycle is refused and the first goes on"

upcycle_twice store "$work/store/of/all" "--run.folder=$work/both" "--model.store=$work/store/of/all"
kill -KILL "$launcher"
wait_for_end
[ -e "$work/store/of/all/lock" ] || fail "the killed upcycle left no lock: this tests nothing"
start upcycle "--run.folder=$work/both" "--model.store=$work/store/of/all" || fail "upcycle after a kill ended with $?"
expect_output "taking over the lock of $work/store/of/all: process "
expect_step_0 "$work/store/of/all"
[ ! -e "$work/store/of/all/lock" ] || fail "the store is still locked"
say "a killed upcycle's lock is taken over at once"

before=$(stamps "$work/store")
chmod -R a-w "$work/store"
start upcycle "--run.folder=$work/both" "--model.store=$work/store/of/all" || fail "upcycle over a step 0 that is there ended with $?"
chmod -R u+w "$work/store"
expect_output "already holds this model; nothing was written"
[ "$before" = "$(stamps "$work/store")" ] || fail "upcycle over a step 0 that is there wrote something"
say "a step 0 that is there is left alone"
