# SPDX-License-Identifier: Apache-2.0
# caravan_add_build_facts(target): compiles core/build_facts.cpp into the target. What configuring knows is filled in
# now; the commit at every build, by this file run as a script, which rewrites the source only when it changed.
if(CMAKE_SCRIPT_MODE_FILE)
  set(CARAVAN_COMMIT "unknown")
  execute_process(COMMAND git rev-parse --show-toplevel WORKING_DIRECTORY "${SOURCE_DIR}"
                  OUTPUT_VARIABLE top OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  file(REAL_PATH "${SOURCE_DIR}" source)
  if(top STREQUAL source)  # an unpacked archive inside another repository has no commit of its own
    execute_process(COMMAND git describe --always --dirty --abbrev=12 "--exclude=*" WORKING_DIRECTORY "${SOURCE_DIR}"
                    OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(described)
      set(CARAVAN_COMMIT "${described}")
    endif()
  endif()
  configure_file("${TEMPLATE}" "${RESULT}")
  return()
endif()

function(caravan_add_build_facts target)
  set(folder "${PROJECT_BINARY_DIR}/build_facts")
  set(CARAVAN_BUILD_TYPE_TEXT "${CMAKE_BUILD_TYPE}")
  if(CARAVAN_SANITIZE)
    string(APPEND CARAVAN_BUILD_TYPE_TEXT " with sanitizers")
  endif()
  string(REGEX REPLACE "[,\n].*" "" CARAVAN_MPI_VERSION "${MPI_C_LIBRARY_VERSION_STRING}")
  if(NOT CARAVAN_MPI_VERSION)
    set(CARAVAN_MPI_VERSION "MPI ${MPI_C_VERSION}")
  endif()
  configure_file(build_facts.cpp.in "${folder}/build_facts.cpp.in" @ONLY)
  add_custom_target(${target}_commit BYPRODUCTS "${folder}/build_facts.cpp" VERBATIM
    COMMAND ${CMAKE_COMMAND} -D "SOURCE_DIR=${PROJECT_SOURCE_DIR}" -D "TEMPLATE=${folder}/build_facts.cpp.in"
            -D "RESULT=${folder}/build_facts.cpp" -P "${PROJECT_SOURCE_DIR}/cmake/BuildFacts.cmake"
    COMMENT "Looking up the commit")
  target_sources(${target} PRIVATE "${folder}/build_facts.cpp")
  add_dependencies(${target} ${target}_commit)
endfunction()
