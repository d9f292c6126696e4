# SPDX-License-Identifier: Apache-2.0
# Flags and launchers that every target of Caravan shares.
add_library(caravan_flags INTERFACE)
# nvcc hands an option to its host compiler only behind -Xcompiler.
function(caravan_host_options)
  foreach(option IN LISTS ARGN)
    target_compile_options(caravan_flags INTERFACE
      $<IF:$<COMPILE_LANGUAGE:CUDA>,-Xcompiler=${option},${option}>)
  endforeach()
endfunction()
caravan_host_options(-Wall)
# In the code that nvcc generates these warn of what nobody wrote.
target_compile_options(caravan_flags INTERFACE "$<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-Wextra;-Wshadow;-Wconversion>")
# Kernels are plain loops over arrays that never overlap in part; errno of math calls is never read.
caravan_host_options(-fno-math-errno)
# The same bits at every optimisation decision: no fused multiply-add beyond what the source says.
caravan_host_options(-ffp-contract=off)
target_compile_options(caravan_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>)
# Kernels call constexpr functions of core and of the standard library.
target_compile_options(caravan_flags INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr>)
if(CARAVAN_NATIVE)
  caravan_host_options(-march=native)
  # A compiler cache sees only the word "native": name the processor too, lest objects travel to another one.
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -march=native -x c++ -E -v - INPUT_FILE /dev/null
                  OUTPUT_QUIET ERROR_VARIABLE CARAVAN_NATIVE_OPTIONS)
  string(REGEX MATCHALL "-m[a-z0-9=.-]+" CARAVAN_NATIVE_OPTIONS "${CARAVAN_NATIVE_OPTIONS}")
  string(MD5 CARAVAN_NATIVE_KEY "${CARAVAN_NATIVE_OPTIONS}")
  target_compile_definitions(caravan_flags INTERFACE CARAVAN_NATIVE_PROCESSOR=0x${CARAVAN_NATIVE_KEY})
endif()
if(CARAVAN_WERROR)
  caravan_host_options(-Werror)
endif()
if(CARAVAN_SANITIZE)
  target_compile_options(caravan_flags INTERFACE
    "$<$<NOT:$<COMPILE_LANGUAGE:CUDA>>:-fsanitize=address,undefined;-fno-omit-frame-pointer>")
  target_link_options(caravan_flags INTERFACE -fsanitize=address,undefined)
endif()

find_program(CARAVAN_CCACHE ccache)
if(CARAVAN_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers need both: gcc's flag below and this sloppiness.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CARAVAN_CCACHE})
  target_compile_options(caravan_flags INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
endif()
