# SPDX-License-Identifier: Apache-2.0
# Target caravan_kokkos: Kokkos 3.4 or newer. Debian's 3.4.1 (inside Trilinos) ships a KokkosConfig.cmake
# that names a folder which does not exist and stops CMake, so that one gets a target made by hand.
add_library(caravan_kokkos INTERFACE)
find_path(CARAVAN_TRILINOS_KOKKOS Kokkos_Core.hpp PATHS /usr/include/trilinos NO_DEFAULT_PATH)
find_library(CARAVAN_TRILINOS_KOKKOS_CORE trilinos_kokkoscore)
if(NOT Kokkos_ROOT AND NOT Kokkos_DIR AND NOT DEFINED ENV{Kokkos_ROOT}
   AND CARAVAN_TRILINOS_KOKKOS AND CARAVAN_TRILINOS_KOKKOS_CORE)
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
  target_link_libraries(caravan_kokkos INTERFACE Kokkos::kokkos)
  set(CARAVAN_KOKKOS_VERSION "${Kokkos_VERSION}")
  message(STATUS "Kokkos: ${Kokkos_VERSION} in ${Kokkos_DIR}")
endif()
