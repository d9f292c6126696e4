// SPDX-License-Identifier: Apache-2.0
// Runs the Catch2 session inside the scope in which kernels may be called.
#include "kernels/runtime.hpp"
#include "tests/support/session.hpp"

int main(int argc, char** argv) {
  const caravan::kernels::Runtime runtime;
  return run_test_session(argc, argv);
}
