// SPDX-License-Identifier: Apache-2.0
#include "io/durable_file.hpp"

#include <fcntl.h>

#include <cerrno>

#include "io/system_error.hpp"

namespace caravan::io {

DurableFile::DurableFile(const std::filesystem::path& path)
    : path_(path), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (!file_.is_open()) throw_system_error("open", path, errno);
}

void DurableFile::start_writing() noexcept {
  // Only this flag: those that wait would also take the write errors that sync() must see.
  ::sync_file_range(file_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
}

void DurableFile::sync() {
  if (::fsync(file_.get()) != 0) throw_system_error("write", path_, errno);
}

}  // namespace caravan::io
