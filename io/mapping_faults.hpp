// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>

namespace caravan::io {

/// What a program that reads a mapped file gets instead of an error: where a page cannot be read, since the storage
/// failed or another process cut the file off, the kernel sends SIGBUS. While it lives, such a fault in [data, data +
/// size) ends the process with exit code 76 and a line on standard error that names the file. Every other fault does
/// what it did before.
class MappingFaults {
 public:
  MappingFaults(const std::filesystem::path& path, const std::byte* data, std::size_t size);
  ~MappingFaults();
  MappingFaults(const MappingFaults&) = delete;
  MappingFaults& operator=(const MappingFaults&) = delete;

  struct Mapping;

 private:
  Mapping* mapping_;
};

}  // namespace caravan::io
