// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace caravan::structure {

/// Reads the rooms of a source tree (src/*, kernels, io: what their CMakeLists.txt links) and every #include in them.
/// Returns one message per broken rule, in order of the files; none means that the tree keeps to its layers:
/// - a file includes only its own room and the rooms that its room links, directly or through them;
/// - includes in quotes are written from the room and exist;
/// - libraries from outside stay where they belong: mpi.h and nccl.h in .cpp files of comm, HDF5 in io, SentencePiece
/// in
///   .cpp files of data, Kokkos in kernels, torch in parallel, model, train, evaluate and commands;
/// - no file sees both torch and Kokkos through the headers of this tree.
/// Throws std::runtime_error if `root` holds no rooms.
std::vector<std::string> broken_layers(const std::filesystem::path& root);

}  // namespace caravan::structure
