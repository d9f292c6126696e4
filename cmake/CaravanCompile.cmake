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
