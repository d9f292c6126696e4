#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds Caravan on Debian 12: installs what is missing, configures, compiles. A second call does only what is not
# done yet and needs no network. Any call may be interrupted and repeated; of two at once, one waits.
set -euo pipefail

usage() {
  cat <<'TEXT'
scripts/build.sh [--preset cpu|debug] [--program] [--jobs N]
  --preset NAME  cpu (default, into build/) or debug (sanitizers, into build-debug/)
  --program      compile the program alone, without the tests
  --jobs N       compile N files at once (default: one per core, fewer where memory is short)
Logs of each stage: build/packages.log, build/libtorch.log and, in the preset's folder, configure.log and compile.log;
how long each took, in seconds: stages.txt there.
TEXT
}

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"
preset=cpu
target=all
jobs=
while [ $# -gt 0 ]; do
  case $1 in
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --program) target=caravan; shift ;;
    --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    *) echo "build.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
done
case $preset in
  cpu) folder=build ;;
  debug) folder=build-debug ;;
  *) echo "build.sh: preset '$preset' is not cpu or debug; for others: cmake --preset $preset" >&2; exit 2 ;;
esac
case ${jobs:-1} in
  *[!0-9]* | 0) echo "build.sh: --jobs needs a number from 1, not '$jobs'" >&2; exit 2 ;;
esac

torch_version=2.11.0
# The CPU libraries of this wheel are linked with these two small CUDA ones; its other dependencies are not needed.
torch_wheels=("torch==$torch_version" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
packages=(build-essential ca-certificates catch2 ccache cmake git hdf5-tools libboost-program-options-dev libhdf5-dev
  libopenmpi-dev libsentencepiece-dev libtrilinos-kokkos-dev libxxhash-dev ninja-build nlohmann-json3-dev openmpi-bin
  openssh-client python3 python3-venv util-linux)
# Not needed to build: for tests that are skipped without them.
packages+=(python3-h5py python3-xxhash)
[ "$(id -u)" -ne 0 ] || packages+=(munge slurm-client slurmctld slurmd slurm-wlm-basic-plugins)

# stage NAME LOG COMMAND…: one line with its seconds; the end of the log where it fails.
stage() {
  local name=$1 log=$2 began=$SECONDS status=0
  shift 2
  printf '%-54s ' "$name"
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    printf 'failed after %d s. The end of %s:\n' $((SECONDS - began)) "$log" >&2
    tail -n 40 -- "$log" >&2
    exit 1
  fi
  printf '%4d s\n' $((SECONDS - began))
  printf '%s: %d s\n' "$name" $((SECONDS - began)) >>"$folder/stages.txt"
}

missing_packages() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get -q update && apt-get -q install -y --no-install-recommends "$@"
}

# True when .venv holds the whole of LibTorch. pip writes RECORD last, so a cut installation does not pass.
libtorch_is_there() {
  [ -x .venv/bin/python ] || return 1
  .venv/bin/python - "$torch_version" <<'PYTHON' 2>/dev/null
import importlib.metadata, importlib.util, pathlib, sys
spec = importlib.util.find_spec("torch")
folder = pathlib.Path(spec.submodule_search_locations[0])
wheels = {"torch": sys.argv[1], "nvidia-cuda-runtime": None, "nvidia-cuda-cupti": None}
for name, version in wheels.items():
    distribution = importlib.metadata.distribution(name)
    whole = distribution.read_text("RECORD") is not None
    if not whole or version not in (None, distribution.version.split("+")[0]):
        sys.exit(1)
needed = ("include/ATen/ATen.h", "lib/libtorch_cpu.so", "lib/libc10.so")
sys.exit(0 if all((folder / name).exists() for name in needed) else 1)
PYTHON
}

install_libtorch() {
  local python
  rm -rf .venv
  for python in python3 /usr/bin/python3; do
    "$python" -c 'import ensurepip, venv' && break
  done
  mkdir .venv
  echo "Made by scripts/build.sh, which may remove it." >.venv/made-by-caravan
  "$python" -m venv .venv
  .venv/bin/python -m pip install --no-input --disable-pip-version-check --progress-bar off --only-binary :all: \
    --no-deps "${torch_wheels[@]}"
  libtorch_is_there
}

cached() { sed -n "s/^$1:[A-Z]*=//p" "$folder/CMakeCache.txt" 2>/dev/null || true; }

mkdir -p build "$folder"

if [ ! -r /etc/os-release ] || ! grep -Eq '^ID(_LIKE)?=.*debian' /etc/os-release || ! command -v dpkg-query >/dev/null; then
  cat >&2 <<'TEXT'
build.sh installs Debian packages, and this is not a Debian system. Load or install a C++20 compiler, CMake >= 3.25,
MPI-3, HDF5 >= 1.10.7, Kokkos >= 3.4, LibTorch 2.10-2.12, Boost, nlohmann_json, SentencePiece and xxHash, then:
  cmake --preset site && cmake --build build
TEXT
  exit 2
fi

exec 9>build/.lock
if ! flock -n 9; then
  echo "Another build.sh is at work in this folder; waiting for it."
  flock 9
fi

: >"$folder/stages.txt"
mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ] && [ "$(id -u)" -ne 0 ]; then
  printf 'These Debian packages are missing, and only root can install them. Run this, then build.sh again:\n' >&2
  printf '  apt-get update && apt-get install -y --no-install-recommends %s\n' "${missing[*]}" >&2
  exit 2
fi

if [ ${#missing[@]} -gt 0 ]; then
  stage "installing ${#missing[@]} Debian packages" build/packages.log install_packages "${missing[@]}"
fi

if ! libtorch_is_there; then
  if [ -e .venv ] && [ ! -e .venv/made-by-caravan ]; then
    echo "$root/.venv has no LibTorch $torch_version and was not made by build.sh: move it away, then run build.sh again." >&2
    exit 2
  fi
  stage "installing LibTorch $torch_version into .venv" build/libtorch.log install_libtorch
  rm -f "$folder/build.ninja"
fi

# Configure afresh where nothing usable is there: never configured, moved, or another LibTorch than before.
torch_folder=$(cached CARAVAN_TORCH_DIR)
if [ "$(cached CMAKE_HOME_DIRECTORY)" != "$root" ] || [ ! -e "$torch_folder/include/ATen/ATen.h" ]; then
  stage "configuring ($preset)" "$folder/configure.log" cmake --preset "$preset" --fresh
elif [ ! -e "$folder/build.ninja" ] || [ CMakePresets.json -nt "$folder/build.ninja" ]; then
  stage "configuring ($preset)" "$folder/configure.log" cmake --preset "$preset"
fi

if [ -z "$jobs" ]; then
  # A file that sees torch takes up to 2 GB to compile.
  gigabytes=$(awk '/^MemAvailable/ { print int($2 / 1e6) }' /proc/meminfo)
  jobs=$(nproc)
  [ "$jobs" -le $((gigabytes / 2)) ] || jobs=$((gigabytes > 3 ? gigabytes / 2 : 1))
fi
what="everything"
[ "$target" = all ] || what="the program"
stage "compiling $what into $folder/ with $jobs jobs" "$folder/compile.log" \
  cmake --build "$folder" --target "$target" --parallel "$jobs"
