// SPDX-License-Identifier: Apache-2.0
#include "tests/support/session.hpp"

int main(int argc, char** argv) { return run_test_session(argc, argv); }
