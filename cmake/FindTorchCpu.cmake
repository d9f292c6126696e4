# SPDX-License-Identifier: Apache-2.0
# Target caravan_torch: LibTorch's CPU part, libtorch_cpu and libc10, from the folder of a wheel, of a Spack package or
# of a LibTorch archive. find_package(Torch) is not used: in a package built with CUDA it insists on a CUDA toolkit.
# The folder is CARAVAN_TORCH_DIR; where that is not given, Torch_DIR, Torch_ROOT and CMAKE_PREFIX_PATH are searched
# (each may name torch's folder, its share/cmake or the Python prefix above it), then the virtual environment .venv.
set(CARAVAN_TORCH_HINTS)
string(REPLACE ":" ";" CARAVAN_PREFIXES "$ENV{CARAVAN_TORCH_DIR}:$ENV{Torch_ROOT}:$ENV{CMAKE_PREFIX_PATH}")
foreach(prefix IN LISTS Torch_DIR Torch_ROOT CMAKE_PREFIX_PATH CARAVAN_PREFIXES)
  if(prefix)
    file(GLOB site_packages "${prefix}/lib*/python3*/site-packages/torch")
    list(APPEND CARAVAN_TORCH_HINTS "${prefix}" "${prefix}/torch" "${prefix}/../.." "${prefix}/../../.." ${site_packages})
  endif()
endforeach()
file(GLOB CARAVAN_VENV_TORCH "${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
find_path(CARAVAN_TORCH_DIR include/ATen/ATen.h
          HINTS ${CARAVAN_TORCH_HINTS} ${CARAVAN_VENV_TORCH}
          DOC "Folder of LibTorch: the one that holds include/ATen and lib")
if(NOT CARAVAN_TORCH_DIR)
  message(FATAL_ERROR "LibTorch was not found. Run scripts/build.sh, which installs it into .venv, or pass "
                      "-DCARAVAN_TORCH_DIR=FOLDER (the folder with include/ATen and lib).")
endif()
find_library(CARAVAN_TORCH_CPU torch_cpu PATHS "${CARAVAN_TORCH_DIR}/lib" "${CARAVAN_TORCH_DIR}/lib64" NO_DEFAULT_PATH REQUIRED)
find_library(CARAVAN_C10 c10 PATHS "${CARAVAN_TORCH_DIR}/lib" "${CARAVAN_TORCH_DIR}/lib64" NO_DEFAULT_PATH REQUIRED)
# CMake keeps no path inside the source tree in an installed program, and .venv is there: name the folder.
get_filename_component(CARAVAN_TORCH_LIB "${CARAVAN_TORCH_CPU}" DIRECTORY)
list(APPEND CMAKE_INSTALL_RPATH "${CARAVAN_TORCH_LIB}")
add_library(caravan_torch INTERFACE)
target_include_directories(caravan_torch SYSTEM INTERFACE
  "${CARAVAN_TORCH_DIR}/include" "${CARAVAN_TORCH_DIR}/include/torch/csrc/api/include")
target_link_libraries(caravan_torch INTERFACE "${CARAVAN_TORCH_CPU}" "${CARAVAN_C10}")

# Newer releases keep the numbers in headeronly/version.h, older ones in the C++ interface's version.h.
set(CARAVAN_TORCH_VERSION "")
foreach(header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
  if(EXISTS "${CARAVAN_TORCH_DIR}/include/${header}" AND NOT CARAVAN_TORCH_VERSION)
    file(STRINGS "${CARAVAN_TORCH_DIR}/include/${header}" lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
    string(REGEX MATCHALL "[0-9]+" CARAVAN_TORCH_VERSION "${lines}")
    list(JOIN CARAVAN_TORCH_VERSION "." CARAVAN_TORCH_VERSION)
  endif()
endforeach()
if(NOT CARAVAN_TORCH_VERSION)
  set(CARAVAN_TORCH_VERSION "unknown")
endif()
message(STATUS "LibTorch: ${CARAVAN_TORCH_VERSION} in ${CARAVAN_TORCH_DIR}")
if(CARAVAN_TORCH_VERSION VERSION_LESS 2.10 OR CARAVAN_TORCH_VERSION VERSION_GREATER_EQUAL 2.13)
  message(WARNING "Caravan is written for LibTorch 2.10 to 2.12.")
endif()
