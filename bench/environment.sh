# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it, which set `root`. One thread per rank; mpirun also as root and in containers.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMPI_MCA_btl_vader_single_copy_mechanism=none
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# random_model FOLDER SHAPE: builds the program; makes FOLDER, which is removed when the script ends, and in it the
# model `base` with random weights of bench/shapes/SHAPE.json and a tokenizer, and `config.ini` with the run folder
# `run` and the published sizes of the mixture. Sets `work` to FOLDER.
random_model() {
  work=$1
  mkdir -p -- "$work"
  trap 'rm -rf -- "$work"' EXIT
  cmake --build "$root/build" --target random_base caravan >/dev/null
  "$root/build/bench/random_base" "$root/bench/shapes/$2.json" "$work/base"
  cp -- "$root"/inputs/tiny-base/tokenizer* "$work/base/"
  cat >"$work/config.ini" <<INI
[run]
folder = $work/run
[model]
base = $work/base
[upcycle]
experts = 8
topk = 2
adapter_dim = 512
[lora]
rank = 64
INI
}
