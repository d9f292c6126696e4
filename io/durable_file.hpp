// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "io/file_descriptor.hpp"

namespace caravan::io {

/// Makes durable what others (here the HDF5 library) write into a file that exists. It holds a descriptor of its own
/// from before the first byte to the last: the system tells a failed write-back to every descriptor that was open then,
/// so none is lost however early the writing to the storage began and whoever has closed the file since.
class DurableFile {
 public:
  /// Throws core::SystemError with the path.
  explicit DurableFile(const std::filesystem::path& path);

  /// Has the storage begin with what was written so far, while the caller prepares more. Waits for nothing but a full
  /// queue of the storage; where the system can't, nothing happens.
  void start_writing() noexcept;

  /// Returns when every byte is on the storage. Throws core::SystemError when one is not.
  void sync();

 private:
  std::filesystem::path path_;
  FileDescriptor file_;
};

}  // namespace caravan::io
