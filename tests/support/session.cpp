// SPDX-License-Identifier: Apache-2.0
#include "tests/support/session.hpp"

#define CATCH_CONFIG_RUNNER  // for Catch2 2
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_session.hpp>
#else
#include <catch2/catch.hpp>
#endif

int run_test_session(int argc, char** argv) { return Catch::Session().run(argc, argv); }
