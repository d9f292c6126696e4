#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints that were written when a version of the format was the newest (tests/data/checkpoints/version-N: the run
# at steps 0 and 2 of 4 on 2 ranks, and the metrics that it went on to write) are good and resume, at another layout.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

newest=$(sed -n 's/.*newest_version = \([0-9]*\);.*/\1/p' "$CARAVAN_SOURCE/src/checkpoint/manifest.hpp")
[ -n "$newest" ] || fail "the newest version of the format is not known"
for ((version = 1; version <= newest; ++version)); do
  cp -R -- "$CARAVAN_SOURCE/tests/data/checkpoints/version-$version" "$work/run-$version"
  cd -- "$work/run-$version"
  for step in 0 2; do
    expect 0 1 info --verify "$(printf 'run/checkpoints/step-%08d' "$step")"
    expect_output "format version  $version"
  done
  expect 0 4 train config.ini --layout.tp=1 --layout.ep=4
  expect_output 'resumed run/checkpoints/step-00000002, written by 2 ranks (TP 2, EP 2)'
  expect_output 'the checkpoint was written by caravan '
  expect_output 'finished: 4 steps'
  # fp32 at another layout and perhaps on another kind of processor: losses agree to about 1e-6.
  for step in 3 4; do
    loss() { sed -n "s/.*\"ce_loss\":\([^,]*\),.*\"step\":$step,.*/\1/p" -- "$1"; }
    awk -v a="$(loss expected.jsonl)" -v b="$(loss run/metrics.jsonl)" \
      'BEGIN { exit !(a > 0 && b > 0 && (a - b) * (a - b) < 1e-10 * a * a) }' ||
      fail "version $version, step $step: loss $(loss run/metrics.jsonl), then $(loss expected.jsonl)"
  done
done
say "checkpoints of version 1 to $newest resume"
