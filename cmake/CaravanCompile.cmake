# SPDX-License-Identifier: Apache-2.0
# Flags and launchers that every target of Caravan shares.
add_library(caravan_flags INTERFACE)
target_compile_options(caravan_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion)
# Kernels are plain loops over arrays that never overlap in part; errno of math calls is never read.
target_compile_options(caravan_flags INTERFACE -fno-math-errno)
# The same bits at every optimisation decision: no fused multiply-add beyond what the source says.
target_compile_options(caravan_flags INTERFACE -ffp-contract=off)
if(CARAVAN_NATIVE)
  target_compile_options(caravan_flags INTERFACE -march=native)
  # A compiler cache sees only the word "native": name the processor too, lest objects travel to another one.
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -march=native -x c++ -E -v - INPUT_FILE /dev/null
                  OUTPUT_QUIET ERROR_VARIABLE CARAVAN_NATIVE_OPTIONS)
  string(REGEX MATCHALL "-m[a-z0-9=.-]+" CARAVAN_NATIVE_OPTIONS "${CARAVAN_NATIVE_OPTIONS}")
  string(MD5 CARAVAN_NATIVE_KEY "${CARAVAN_NATIVE_OPTIONS}")
  target_compile_definitions(caravan_flags INTERFACE CARAVAN_NATIVE_PROCESSOR=0x${CARAVAN_NATIVE_KEY})
endif()
if(CARAVAN_WERROR)
  target_compile_options(caravan_flags INTERFACE -Werror)
endif()
if(CARAVAN_SANITIZE)
  target_compile_options(caravan_flags INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer)
  target_link_options(caravan_flags INTERFACE -fsanitize=address,undefined)
endif()

find_program(CARAVAN_CCACHE ccache)
if(CARAVAN_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers need both: gcc's flag below and this sloppiness.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CARAVAN_CCACHE})
  target_compile_options(caravan_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
endif()
