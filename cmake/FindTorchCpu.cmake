# SPDX-License-Identifier: Apache-2.0
# Target caravan_torch: LibTorch's CPU part, libtorch_cpu and libc10, from the folder of a wheel or of a LibTorch
# archive (CARAVAN_TORCH_DIR, else the project's virtual environment, else CMAKE_PREFIX_PATH). find_package(Torch)
# is not used: in a wheel built with CUDA it insists on a CUDA toolkit.
file(GLOB CARAVAN_VENV_TORCH "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
find_path(CARAVAN_TORCH_DIR include/ATen/ATen.h
          HINTS ${CARAVAN_VENV_TORCH} ${Torch_ROOT} $ENV{Torch_ROOT} ${Torch_DIR}/../../.. $ENV{CARAVAN_TORCH_DIR}
          PATH_SUFFIXES torch
          DOC "Folder of LibTorch: the one that holds include/ATen and lib")
if(NOT CARAVAN_TORCH_DIR)
  message(FATAL_ERROR "LibTorch was not found. Run scripts/build.sh, which installs it into .venv, or pass "
                      "-DCARAVAN_TORCH_DIR=FOLDER (the folder with include/ATen and lib).")
endif()
find_library(CARAVAN_TORCH_CPU torch_cpu PATHS ${CARAVAN_TORCH_DIR}/lib NO_DEFAULT_PATH REQUIRED)
find_library(CARAVAN_C10 c10 PATHS ${CARAVAN_TORCH_DIR}/lib NO_DEFAULT_PATH REQUIRED)
add_library(caravan_torch INTERFACE)
target_include_directories(caravan_torch SYSTEM INTERFACE
  ${CARAVAN_TORCH_DIR}/include ${CARAVAN_TORCH_DIR}/include/torch/csrc/api/include)
target_link_libraries(caravan_torch INTERFACE ${CARAVAN_TORCH_CPU} ${CARAVAN_C10})
target_link_options(caravan_torch INTERFACE "-Wl,-rpath,${CARAVAN_TORCH_DIR}/lib")
file(STRINGS ${CARAVAN_TORCH_DIR}/include/torch/csrc/api/include/torch/version.h CARAVAN_TORCH_VERSION_LINE
     REGEX "define TORCH_VERSION ")
string(REGEX REPLACE ".*\"(.*)\".*" "\\1" CARAVAN_TORCH_VERSION "${CARAVAN_TORCH_VERSION_LINE}")
message(STATUS "LibTorch: ${CARAVAN_TORCH_VERSION} in ${CARAVAN_TORCH_DIR}")
