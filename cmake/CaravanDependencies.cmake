# SPDX-License-Identifier: Apache-2.0
# Every library from outside, found once, as an imported target with the name the rooms use.
find_package(Threads REQUIRED)
set(MPI_DETERMINE_LIBRARY_VERSION ON)  # for the build facts
find_package(MPI 3.0 REQUIRED COMPONENTS C)
find_package(HDF5 1.10.7 REQUIRED COMPONENTS C)
find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
find_package(nlohmann_json 3.10 REQUIRED)
include(FindKokkosAnywhere)
include(FindTorchCpu)

# MPI's C interface only: its removed C++ one would pull a second library in.
add_library(caravan_mpi INTERFACE)
target_link_libraries(caravan_mpi INTERFACE MPI::MPI_C)
target_compile_definitions(caravan_mpi INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)

add_library(caravan_hdf5 INTERFACE)
target_include_directories(caravan_hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
target_link_libraries(caravan_hdf5 INTERFACE ${HDF5_C_LIBRARIES})
target_compile_definitions(caravan_hdf5 INTERFACE ${HDF5_DEFINITIONS})
if(HDF5_IS_PARALLEL)  # then its header includes mpi.h
  target_link_libraries(caravan_hdf5 INTERFACE caravan_mpi)
endif()

# Libraries with neither a CMake package in every distribution nor more than one header and one file.
function(caravan_find_plain target header library)
  find_path(${target}_INCLUDE ${header} REQUIRED)
  find_library(${target}_LIBRARY ${library} REQUIRED)
  add_library(${target} INTERFACE)
  target_include_directories(${target} SYSTEM INTERFACE ${${target}_INCLUDE})
  target_link_libraries(${target} INTERFACE ${${target}_LIBRARY})
endfunction()
caravan_find_plain(caravan_xxhash xxhash.h xxhash)
caravan_find_plain(caravan_sentencepiece sentencepiece_processor.h sentencepiece)
