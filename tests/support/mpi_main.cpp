// SPDX-License-Identifier: Apache-2.0
// Runs the same Catch2 session on every rank; one rank's failure fails the whole.
#include <mpi.h>

#include "tests/support/session.hpp"

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  const int result = run_test_session(argc, argv);
  // A rank that failed may have left collectives that others wait in: end the world at once.
  if (result != 0) MPI_Abort(MPI_COMM_WORLD, result > 0 && result < 256 ? result : 1);
  MPI_Finalize();
  return result;
}
