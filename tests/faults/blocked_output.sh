#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Output that nobody reads, as with a pager that waits or a stopped terminal: training goes on, log.txt has every line,
# and a signal still gets its checkpoint.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 1000000 1000000 1 1 1
copy_run origin blocked
mkfifo "$work/pipe"
exec {pipe}<>"$work/pipe"
dd if=/dev/zero of="$work/pipe" bs=512 oflag=nonblock status=none 2>/dev/null || true  # until it is full
"$binary" train "$work/config.ini" "--run.folder=$work/blocked" --train.log_every=1 >"$work/pipe" 2>&1 </dev/null &
launcher=$! pids=("$!")
wait_for_step blocked 20
kill -USR1 "$launcher"
go_on
wait_for_end
: >"$work/output"
[ "$status" -eq 75 ] || fail "training whose output nobody reads ended with $status instead of 75"
last=$(last_step blocked)
[ "$(last_checkpoint blocked)" -eq "$last" ] || fail "the checkpoint is of step $(last_checkpoint blocked), not $last"
lines=$(grep -c '^step ' "$work/blocked/log.txt")
[ "$lines" -eq "$last" ] || fail "log.txt has $lines of $last steps"
say "training goes on while nobody reads its output, and saves step $last when it is stopped"
