#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds, then runs the tests labelled quick and full. Further arguments go to ctest: scripts/test.sh -R layout
# CARAVAN_PRESET=debug runs them with sanitizers, CARAVAN_TEST_JOBS=N takes N cores (default 2).
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
preset=${CARAVAN_PRESET:-cpu}
"$root/scripts/build.sh" --preset "$preset"
case $preset in
  cpu) folder=$root/build ;;
  *) folder=$root/build-$preset ;;
esac
echo "testing (all output: $folder/test.log)"
began=$SECONDS status=0
ctest --test-dir "$folder" --label-exclude soak --parallel "${CARAVAN_TEST_JOBS:-2}" --output-on-failure \
  --no-tests=error --output-log "$folder/test.log" "$@" </dev/null || status=$?
echo
echo "Time of each stage (of a label: the sum over its tests, of which some run side by side):"
sed 's/^/  /' "$folder/stages.txt"
echo "  all tests: $((SECONDS - began)) s"
sed -n 's/^\([a-z]*\) *= *\([0-9]*\)[.0-9]* sec\*proc *(\(.*\))$/  label \1: \2 s x processors, \3/p' "$folder/test.log"
exit "$status"
