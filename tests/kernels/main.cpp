// SPDX-License-Identifier: Apache-2.0
// Runs the Catch2 session inside the scope in which kernels may be called.
#define CATCH_CONFIG_RUNNER  // for Catch2 2
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include "kernels/runtime.hpp"

int main(int argc, char** argv) {
  const caravan::kernels::Runtime runtime;
  return Catch::Session().run(argc, argv);
}
