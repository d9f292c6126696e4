#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A held-out file that does not fit the model is a reason to check an export on random tokens; a storage that fails while
# it is looked at is none: export ends with 76, and the next one checks on the held-out texts.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

library=$CARAVAN_TEST_LIBRARIES/libfailing_files.so
[ -e "$library" ] || fail "there is no $library"
make_origin 2 2 1 1 1
start prepare --data.held_out_every=5 || fail "prepare ended with $?"
held_out=$work/instructions.packed.heldout

ended=0
LD_PRELOAD=$library CARAVAN_FAULT_FILE=/step-00000000/tokenizer.model CARAVAN_FAULT_CALL=read CARAVAN_FAULT_ERRNO=5 \
  CARAVAN_FAULT_ONCE="$work/once" start export "--export.folder=$work/export" || ended=$?
[ -e "$work/once" ] || fail "nothing failed: this tests nothing"
[ "$ended" -eq 76 ] || fail "a storage that fails: exit $ended instead of 76"
[ ! -e "$work/export" ] || fail "a storage that fails: $work/export is there"

start export "--export.folder=$work/export" || fail "export ended with $?"
expect_output "tokens of $(basename -- "$held_out")"
printf 'no packed file' >"$held_out"
start export "--export.folder=$work/other" || fail "export beside a damaged held-out file ended with $?"
expect_output "$held_out: is not a packed token file"
expect_output '; the export is checked on random tokens instead'
expect_output 'tokens drawn at random'
say "a damaged held-out file is passed over, a failing storage is not"
