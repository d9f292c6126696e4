# SPDX-License-Identifier: Apache-2.0
# Target caravan_kokkos: Kokkos 3.4 or newer, first what Kokkos_ROOT, Kokkos_DIR or CMAKE_PREFIX_PATH name (Spack,
# modules), then the system's. Debian's 3.4.1 (inside Trilinos) ships a KokkosConfig.cmake that names a folder which
# does not exist and stops CMake, so that one gets a target made by hand.
# CARAVAN_KOKKOS_LANGUAGE is the language in which sources that see Kokkos are compiled: CXX, or CUDA.
add_library(caravan_kokkos INTERFACE)
set(CARAVAN_KOKKOS_LANGUAGE CXX)
find_path(CARAVAN_TRILINOS_KOKKOS Kokkos_Core.hpp PATHS /usr/include/trilinos NO_DEFAULT_PATH)
find_library(CARAVAN_TRILINOS_KOKKOS_CORE trilinos_kokkoscore)
find_package(Kokkos CONFIG QUIET NO_CMAKE_SYSTEM_PATH NO_SYSTEM_ENVIRONMENT_PATH)
if(NOT Kokkos_FOUND AND CARAVAN_TRILINOS_KOKKOS AND CARAVAN_TRILINOS_KOKKOS_CORE)
  target_include_directories(caravan_kokkos SYSTEM INTERFACE ${CARAVAN_TRILINOS_KOKKOS})
  target_link_libraries(caravan_kokkos INTERFACE ${CARAVAN_TRILINOS_KOKKOS_CORE} ${CMAKE_DL_LIBS})
  file(STRINGS "${CARAVAN_TRILINOS_KOKKOS}/KokkosCore_config.h" line REGEX "define KOKKOS_VERSION [0-9]+")
  string(REGEX MATCH "[0-9]+" number "${line}")  # 30401 is 3.4.1
  math(EXPR major "${number} / 10000")
  math(EXPR minor "${number} / 100 % 100")
  math(EXPR patch "${number} % 100")
  set(CARAVAN_KOKKOS_VERSION "${major}.${minor}.${patch}")
  message(STATUS "Kokkos: ${CARAVAN_KOKKOS_VERSION}, Debian's, ${CARAVAN_TRILINOS_KOKKOS_CORE}")
else()
  find_package(Kokkos REQUIRED)
  if(Kokkos_VERSION VERSION_LESS 3.4)
    message(FATAL_ERROR "Kokkos ${Kokkos_VERSION} in ${Kokkos_DIR} is too old: Caravan needs 3.4 or newer.")
  endif()
  target_link_libraries(caravan_kokkos INTERFACE Kokkos::kokkos)
  set(CARAVAN_KOKKOS_VERSION "${Kokkos_VERSION}")
  message(STATUS "Kokkos: ${Kokkos_VERSION} in ${Kokkos_DIR}")
endif()

if(Kokkos_ENABLE_CUDA)
  if(NOT Kokkos_COMPILE_LANGUAGE STREQUAL "CUDA")
    message(FATAL_ERROR "The Kokkos in ${Kokkos_DIR} wants its own compiler wrapper. Build one with "
                        "-DKokkos_ENABLE_COMPILE_AS_CMAKE_LANGUAGE=ON (Spack: kokkos+cuda+cmake_lang).")
  endif()
  message(WARNING "This Kokkos computes on a GPU, while Caravan's tensors are in the host's memory so far. The program "
                  "will compile, but every command that computes will end with exit code 2: take a Kokkos without CUDA.")
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES ${Kokkos_CUDA_ARCHITECTURES})
  endif()
  set(CMAKE_CUDA_STANDARD ${CMAKE_CXX_STANDARD})
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  enable_language(CUDA)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3")  # no NDEBUG, as in C++
  set(CARAVAN_KOKKOS_LANGUAGE CUDA)
endif()
