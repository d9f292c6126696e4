# SPDX-License-Identifier: Apache-2.0
# caravan_add_room(name [TORCH] SOURCES a.cpp … LINKS caravan_core …)
#   A room is one library, caravan_<name>. LINKS is the whole list of what it may include from; the layering test
#   compares the includes with it. TORCH: all its files see torch, so they share the precompiled header. Includes are written from the room: "core/error.hpp".
# caravan_add_test(name SOURCES a.cpp … LINKS … [NP 1 2 4] [LABEL quick|full|soak] [TIMEOUT seconds] [ARGS …])
#   One executable; with NP one CTest entry per rank count, started by mpirun, else one without MPI.
function(caravan_add_room name)
  cmake_parse_arguments(ROOM "TORCH" "" "SOURCES;LINKS" ${ARGN})
  set_property(GLOBAL APPEND PROPERTY CARAVAN_ROOMS ${name})
  set_property(GLOBAL PROPERTY CARAVAN_ROOM_FOLDER_${name} "${CMAKE_CURRENT_SOURCE_DIR}")
  set_property(GLOBAL PROPERTY CARAVAN_ROOM_TORCH_${name} ${ROOM_TORCH})
  if(NOT ROOM_SOURCES)  # headers only
    add_library(caravan_${name} INTERFACE)
    target_include_directories(caravan_${name} INTERFACE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}")
    target_link_libraries(caravan_${name} INTERFACE ${ROOM_LINKS})
    return()
  endif()
  add_library(caravan_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(caravan_${name} PUBLIC "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}")
  target_link_libraries(caravan_${name} PUBLIC ${ROOM_LINKS} PRIVATE caravan_flags)
  if(ROOM_TORCH)
    caravan_use_torch_headers(caravan_${name})
  endif()
endfunction()

# One precompiled header for every target that sees torch: 15 s of parsing, once.
function(caravan_use_torch_headers target)
  if(NOT TARGET caravan_torch_headers)
    file(WRITE "${PROJECT_BINARY_DIR}/torch_headers.cpp" "// Carries the precompiled header.\n")
    add_library(caravan_torch_headers OBJECT "${PROJECT_BINARY_DIR}/torch_headers.cpp")
    target_link_libraries(caravan_torch_headers PRIVATE caravan_torch caravan_flags)
    target_precompile_headers(caravan_torch_headers PRIVATE <ATen/ATen.h> <torch/csrc/autograd/function.h>
                              <torch/csrc/autograd/variable.h>)
  endif()
  target_precompile_headers(${target} REUSE_FROM caravan_torch_headers)
endfunction()

function(caravan_add_test name)
  cmake_parse_arguments(TEST "TORCH" "LABEL;TIMEOUT" "SOURCES;LINKS;NP;ARGS" ${ARGN})
  if(NOT TEST_LABEL)
    set(TEST_LABEL quick)
  endif()
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 60)
  endif()
  add_executable(${name} ${TEST_SOURCES})
  if(TEST_NP)
    target_link_libraries(${name} PRIVATE ${TEST_LINKS} caravan_test_mpi_main caravan_flags)
  else()
    target_link_libraries(${name} PRIVATE ${TEST_LINKS} caravan_test_main caravan_flags)
  endif()
  if(TEST_TORCH)
    caravan_use_torch_headers(${name})
  endif()
  if(NOT TEST_NP)
    add_test(NAME ${name} COMMAND ${name} ${TEST_ARGS})
    set_tests_properties(${name} PROPERTIES LABELS ${TEST_LABEL} TIMEOUT ${TEST_TIMEOUT}
                         ENVIRONMENT "${CARAVAN_TEST_ENVIRONMENT}")
  endif()
  foreach(ranks IN LISTS TEST_NP)
    add_test(NAME ${name}.np${ranks}
             COMMAND ${MPIEXEC_EXECUTABLE} ${CARAVAN_MPIEXEC_FLAGS} ${MPIEXEC_NUMPROC_FLAG} ${ranks}
                     $<TARGET_FILE:${name}> ${TEST_ARGS})
    set_tests_properties(${name}.np${ranks} PROPERTIES LABELS ${TEST_LABEL} TIMEOUT ${TEST_TIMEOUT}
                         PROCESSORS ${ranks} ENVIRONMENT "${CARAVAN_MPI_TEST_ENVIRONMENT}")
  endforeach()
endfunction()
