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
# The last lines are ctest's own: how many passed, which failed, the time.
exec ctest --test-dir "$folder" --label-exclude soak --parallel "${CARAVAN_TEST_JOBS:-2}" --output-on-failure \
  --no-tests=error --output-log "$folder/test.log" "$@" </dev/null
