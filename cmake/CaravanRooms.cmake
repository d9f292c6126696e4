# SPDX-License-Identifier: Apache-2.0
# caravan_add_room(name [TORCH | JSON] SOURCES a.cpp … LINKS caravan_core …)
#   A room is one library, caravan_<name>. LINKS is the whole list of what it may include from; the layering test
#   compares the includes with it. Includes are written from the room: "core/error.hpp". TORCH, JSON: most of its files
#   see torch or JSON, so they share the precompiled header of those.
# caravan_add_test(name SOURCES a.cpp … LINKS … [NP 1 2 4] [LABEL quick|full|soak] [TIMEOUT seconds] [ARGS …])
#   One executable; with NP one CTest entry per rank count, started by mpirun, else one without MPI.
function(caravan_add_room name)
  cmake_parse_arguments(ROOM "TORCH;JSON" "" "SOURCES;LINKS" ${ARGN})
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
  if(caravan_kokkos IN_LIST ROOM_LINKS AND NOT CARAVAN_KOKKOS_LANGUAGE STREQUAL "CXX")
    set_source_files_properties(${ROOM_SOURCES} PROPERTIES LANGUAGE ${CARAVAN_KOKKOS_LANGUAGE})
  endif()
  if(ROOM_TORCH)
    caravan_use_torch_headers(caravan_${name})
  elseif(ROOM_JSON)
    caravan_use_json_headers(caravan_${name})
  endif()
endfunction()

# caravan_use_headers(target set LINKS … HEADERS …): one precompiled header of that name for all its targets.
function(caravan_use_headers target set)
  cmake_parse_arguments(USE "" "" "LINKS;HEADERS" ${ARGN})
  if(NOT TARGET ${set})
    file(WRITE "${PROJECT_BINARY_DIR}/${set}.cpp" "// Carries the precompiled header.\n")
    add_library(${set} OBJECT "${PROJECT_BINARY_DIR}/${set}.cpp")
    target_link_libraries(${set} PRIVATE ${USE_LINKS} caravan_flags)
    target_precompile_headers(${set} PRIVATE ${USE_HEADERS})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${set})
endfunction()

# 15 s of parsing, once. With JSON, since most that see torch see it, too.
function(caravan_use_torch_headers target)
  caravan_use_headers(${target} caravan_torch_headers
    LINKS caravan_torch nlohmann_json::nlohmann_json
    HEADERS <ATen/ATen.h> <torch/csrc/autograd/function.h> <torch/csrc/autograd/variable.h> <nlohmann/json.hpp>)
endfunction()

# 2 s of parsing a file.
function(caravan_use_json_headers target)
  caravan_use_headers(${target} caravan_json_headers LINKS nlohmann_json::nlohmann_json HEADERS <nlohmann/json.hpp>)
endfunction()

function(caravan_add_test name)
  cmake_parse_arguments(TEST "TORCH" "LABEL;TIMEOUT" "SOURCES;LINKS;NP;ARGS" ${ARGN})
  if(NOT TEST_LABEL)
    set(TEST_LABEL quick)
  endif()
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 60)
  endif()
  if(CARAVAN_SANITIZE)
    math(EXPR TEST_TIMEOUT "3 * ${TEST_TIMEOUT}")
  endif()
  add_executable(${name} ${TEST_SOURCES})
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    target_compile_options(${name} PRIVATE -O1)  # a test is compiled more often than it runs: a fifth less time
  endif()
  if(TEST_NP)
    target_link_libraries(${name} PRIVATE ${TEST_LINKS} caravan_test_mpi_main caravan_flags)
  else()
    target_link_libraries(${name} PRIVATE ${TEST_LINKS} caravan_test_main caravan_flags)
  endif()
  if(TEST_TORCH)
    caravan_use_torch_headers(${name})
  else()
    caravan_use_headers(${name} caravan_test_headers
      LINKS caravan_catch2 nlohmann_json::nlohmann_json HEADERS "${PROJECT_SOURCE_DIR}/tests/support/catch.hpp"
                                                                <nlohmann/json.hpp>)
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
