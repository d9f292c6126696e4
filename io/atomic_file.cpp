// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "core/error.hpp"
#include "core/host_name.hpp"
#include "io/system_error.hpp"

namespace caravan::io {
namespace {

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path)
    : path_(path), temporary_(core::concat(path.string(), ".tmp-", core::host_name(), "-", ::getpid())) {
  file_ = FileDescriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file_.is_open()) throw_system_error("create", temporary_, errno);
}

AtomicFile::~AtomicFile() {
  if (file_.is_open()) {
    file_.reset();
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write(const void* data, std::size_t bytes) { write_all(file_.get(), data, bytes, temporary_); }

void AtomicFile::commit() {
  if (::fsync(file_.get()) != 0) throw_system_error("write", temporary_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) throw_system_error("rename into place", path_, errno);
  // Some network file systems report a failed write only here.
  if (::close(file_.release()) != 0) throw_system_error("close", path_, errno);
  fsync_folder(folder_of(path_));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::string read_file(const std::filesystem::path& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open()) throw_system_error("open", path, errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw_system_error("examine", path, errno);
  if (!S_ISREG(status.st_mode)) core::bad_input("cannot read ", path.string(), ": it is not a regular file");
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t bytes = ::read(file.get(), text.data() + filled, text.size() - filled);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0) throw_system_error("read", path, errno);
    if (bytes == 0) break;  // it was cut meanwhile
    filled += static_cast<std::size_t>(bytes);
  }
  text.resize(filled);
  return text;
}

std::optional<std::int64_t> size_of_file(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) return status.st_size;
  if (errno != ENOENT && errno != ENOTDIR) throw_system_error("examine", path, errno);
  return std::nullopt;
}

void write_all(int descriptor, const void* data, std::size_t bytes, const std::filesystem::path& path) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    constexpr std::size_t most = std::size_t{1} << 30;  // Linux takes at most 2 GiB − 4 KiB at once
    const ssize_t written = ::write(descriptor, next, std::min(bytes, most));
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_system_error("write", path, errno);
    }
    next += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void fsync_folder(const std::filesystem::path& folder) {
  const FileDescriptor file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!file.is_open()) throw_system_error("open", folder, errno);
  if (::fsync(file.get()) != 0 && errno != EINVAL && errno != ENOTSUP) throw_system_error("write", folder, errno);
}

}  // namespace caravan::io
