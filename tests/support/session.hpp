// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Runs the Catch2 session of this test program; returns its exit code. Its source alone sees Catch2's runner, which
/// takes twenty seconds to compile with version 2.
int run_test_session(int argc, char** argv);
