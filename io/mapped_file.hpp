// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>

#include "io/mapping_faults.hpp"

namespace caravan::io {

/// A file mapped read-only into memory. Pages are read when they are touched, so opening a large file costs nothing;
/// where one cannot be read then, the process ends with exit code 76 and names the file.
class MappedFile {
 public:
  /// Throws with the path: core::SystemError when the file is missing or unreadable, exit 2 when it is not a regular
  /// one.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  /// Null for an empty file.
  const std::byte* data() const noexcept { return data_; }
  /// Bytes.
  std::size_t size() const noexcept { return size_; }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::unique_ptr<MappingFaults> faults_;  // of [data_, data_ + size_)
};

}  // namespace caravan::io
