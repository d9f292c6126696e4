#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A storage that is full when a checkpoint is written, in the background or not, ends all ranks with exit 74: the
# checkpoints before are sound, nothing else counts, and when there is room again the same command goes on with the same
# curve. Needs a mount namespace for a small file system; where there is none, the test is skipped (exit 77).
if [ -z "${CARAVAN_IN_NAMESPACE:-}" ]; then
  for way in -m -Urm; do
    unshare "$way" mount -t tmpfs none /mnt 2>/dev/null || continue
    CARAVAN_IN_NAMESPACE=1 exec unshare "$way" bash "$0" "$@"
  done
  echo "this system gives no mount namespace"
  exit 77
fi
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

make_origin 30 4 2 2 1
copy_run origin calm
start train "--run.folder=$work/calm" --checkpoint.keep=2 || fail "the undisturbed run ended with $?"
bytes_of() { du -sB1 -- "$1" | cut -f 1; }
step_0=$(bytes_of "$work/calm/checkpoints/step-00000000")
one=$(bytes_of "$(checkpoint_folder calm "$steps")")

mkdir -- "$work/small"
for asynchronous in true false; do
  mount -t tmpfs none "$work/small"
  copy_run origin small
  # Room for step 0, one checkpoint, a half, and the little files beside them.
  mount -o "remount,size=$((step_0 + one + one / 2 + 65536))" "$work/small"
  status=0
  start train "--run.folder=$work/small" "--checkpoint.asynchronous=$asynchronous" || status=$?
  [ "$status" -eq 74 ] || fail "asynchronous = $asynchronous: exit $status instead of 74"
  expect_output "the checkpoint was not saved: "
  expect_output "No space left on device"
  [ "$(last_checkpoint small)" -eq 4 ] || fail "the newest checkpoint is of step $(last_checkpoint small)"
  "$binary" info "$(checkpoint_folder small 4)" --verify >"$work/verified" || fail "the checkpoint before is not sound"
  saving small || fail "the save of step 8 left no folder"
  if compgen -G "$(checkpoint_folder small 8)/shard-*" >/dev/null; then fail "shards were left in the full storage"; fi
  [ ! -e "$work/small/lock" ] || fail "the run folder is still locked"
  mount -o remount,size=100% "$work/small"
  start train "--run.folder=$work/small" "--checkpoint.asynchronous=$asynchronous" || fail "with room again: exit $?"
  expect_same_curve small calm
  umount "$work/small"
  say "asynchronous = $asynchronous: exit 74, and the curve goes on when there is room"
done
