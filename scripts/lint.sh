#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Reads the C++ sources with clang-format (.clang-format), then clang-tidy (.clang-tidy), and prints what they find.
# A finding in a header counts through every .cpp that includes it, and is printed once.
set -euo pipefail

usage() {
  cat <<'TEXT'
scripts/lint.sh [--format] [FILE…]
  --format  only clang-format, which takes a second; clang-tidy takes half a minute for a file that sees torch
  FILE…     these files instead of all that git tracks; clang-tidy reads the .cpp among them
Both tools are needed in version 14, Debian 12's, since other versions find other things: apt-get install clang-format
clang-tidy. clang-tidy also needs the folder build/, see scripts/build.sh. CARAVAN_LINT_JOBS=N reads N files at once
(default 2). Ends with 0 when nothing is found, 1 with findings, 2 when something needed is missing.
TEXT
}

fail() {
  echo "lint.sh: $*" >&2
  exit 2
}

# The path of a tool in the version that .clang-format and .clang-tidy are written for.
tool() {
  local path version
  path=$(command -v "$1-14" || command -v "$1") || fail "$1 is missing: apt-get install $1"
  version=$("$path" --version | sed -nE 's/.*version ([0-9]+)\..*/\1/p')
  [ "$version" = 14 ] || fail "$path is version ${version:-unknown}, and 14 is needed"
  echo "$path"
}

jobs=${CARAVAN_LINT_JOBS:-2}
case $jobs in
  *[!0-9]* | 0) fail "CARAVAN_LINT_JOBS needs a number from 1, not '$jobs'" ;;
esac
format_only=
files=()
while [ $# -gt 0 ]; do
  case $1 in
    --format) format_only=yes ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; fail "unknown argument '$1'" ;;
    *) [ -f "$1" ] || fail "there is no file '$1'"; files+=("$(realpath -- "$1")") ;;
  esac
  shift
done

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
if [ ${#files[@]} -eq 0 ]; then
  if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$root" ]; then
    mapfile -t files < <(git ls-files -- '*.cpp' '*.hpp' | while read -r file; do [ ! -f "$file" ] || echo "$root/$file"; done)
  else  # an unpacked archive
    mapfile -t files < <(find "$root"/{src,kernels,io,tests} -name '*.[ch]pp' | sort)
  fi
fi
clang_format=$(tool clang-format)
[ "$format_only" ] || clang_tidy=$(tool clang-tidy)

status=0
"$clang_format" --dry-run -Werror "${files[@]}" 2>&1 || status=1
[ ! "$format_only" ] || exit $status

[ -f build/compile_commands.json ] || fail "build/compile_commands.json is missing: run scripts/build.sh first"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
# clang cannot read gcc's precompiled header; without it a file stands on its own includes.
sed -E 's/ -Winvalid-pch -include [^ ]*cmake_pch\.hxx / /; s/ -fpch-preprocess / /' build/compile_commands.json \
  >"$work/compile_commands.json"

sources=()
not_compiled=()
for file in "${files[@]}"; do
  case $file in *.cpp) ;; *) continue ;; esac
  if grep -qF "\"file\": \"$file\"" "$work/compile_commands.json"; then
    sources+=("$file")
  else
    not_compiled+=("${file#"$root"/}")
  fi
done
[ ${#not_compiled[@]} -eq 0 ] || echo "clang-tidy leaves out what build/ does not compile: ${not_compiled[*]}" >&2
[ ${#sources[@]} -gt 0 ] || exit $status

# read_one TOOL FOLDER FILE: prints findings. Standard error counts the warnings of other people's headers, so it is
# reported only when the tool fails without a finding.
# shellcheck disable=SC2317  # called by xargs
read_one() {
  local found code=0
  found=$("$1" -p "$2" --quiet --warnings-as-errors='*' "$3" 2>"$2/errors.$$") || code=$?
  if [ "$code" -ne 0 ]; then
    [ -n "$found" ] || found="$3:1: error: clang-tidy ended with $code: $(cat "$2/errors.$$")"
    { flock 9 && echo "$found"; } 9>"$2/lock"
  fi
}
export -f read_one
printf '%s\0' "${sources[@]}" | xargs -0 -P "$jobs" -n 1 bash -c 'read_one "$@"' lint "$clang_tidy" "$work" |
  awk '/^\/.*: (warning|error|fatal error): / { known = seen[$0]++ }  # what follows belongs to it
       !known { print; fflush(); some = 1 }
       END { exit some }' || status=1
exit $status
