// SPDX-License-Identifier: Apache-2.0
#include "core/executable.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/checksum.hpp"

namespace caravan::core {

std::string executable_checksum() {
  // Mapped: what the ranks of a node have loaded already is in memory once.
  std::string result = "unknown";
  const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (file < 0) return result;
  struct stat status {};
  if (fstat(file, &status) == 0 && status.st_size > 0) {
    const auto size = static_cast<std::size_t>(status.st_size);
    void* const bytes = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (bytes != MAP_FAILED) {
      result = checksum(bytes, size);
      munmap(bytes, size);
    }
  }
  close(file);
  return result;
}

}  // namespace caravan::core
