// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "io/file_descriptor.hpp"

namespace caravan::io {

/// A file that appears under its name whole or not at all: bytes go to PATH.tmp-HOST-PID, which no other process
/// writes to; commit() makes them durable and renames. Dropped without commit(), it leaves what was under the name
/// before. Every failure throws core::Error with the path (core::SystemError; its exit codes are those of
/// core::exit_code_of).
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileDescriptor file_;
};

void write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// The whole file as bytes. Throws with the path: core::SystemError, or exit 2 when it is not a regular file. Not
/// mapped: a storage that fails while a mapped page is read would end the process.
std::string read_file(const std::filesystem::path& path);

/// Bytes; nothing when there is no such file. Throws core::SystemError when the system cannot say.
std::optional<std::int64_t> size_of_file(const std::filesystem::path& path);

/// Writes everything, whatever portion the system takes at once. `path` is for the message.
void write_all(int descriptor, const void* data, std::size_t bytes, const std::filesystem::path& path);

/// Makes a folder's entries (creations, renames) durable; a file system that cannot do that for folders is accepted.
void fsync_folder(const std::filesystem::path& folder);

}  // namespace caravan::io
