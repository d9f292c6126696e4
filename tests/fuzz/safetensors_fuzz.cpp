// SPDX-License-Identifier: Apache-2.0
// libFuzzer: any bytes as a safetensors file. The reader either refuses them with core::Error, exit 2, or every byte
// that it hands out lies inside the file (the address sanitizer watches).
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "io/safetensors.hpp"

namespace {

using namespace caravan;

/// The same bytes as a file, without a disk.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(memfd_create("input", 0)), path_("/proc/self/fd/" + std::to_string(descriptor_)) {
    if (descriptor_ < 0) std::abort();
  }
  void fill(const std::uint8_t* bytes, std::size_t count) {
    if (ftruncate(descriptor_, 0) != 0 || pwrite(descriptor_, bytes, count, 0) != static_cast<ssize_t>(count)) {
      std::abort();
    }
  }
  const std::string& path() const { return path_; }

 private:
  int descriptor_;
  std::string path_;
};

std::uint64_t sum_of_bytes(const io::SafetensorsFile& file, const std::string& name) {
  const layout::TensorSource::Info info = file.info(name);
  const std::uint64_t size = static_cast<std::uint64_t>(layout::element_count(info.shape)) * core::size_of(info.dtype);
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < size; ++i) sum += std::to_integer<std::uint64_t>(file.data(name)[i]);
  return sum;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
  static MemoryFile memory;
  memory.fill(bytes, count);
  try {
    const io::SafetensorsFile file(memory.path());
    std::uint64_t sum = 0;
    for (const std::string& name : file.names()) {
      try {
        sum += sum_of_bytes(file, name);
      } catch (const core::Error& error) {  // an element type that is none of ours
        if (error.code() != core::ExitCode::bad_input) std::abort();
      }
    }
    static volatile std::uint64_t sink = 0;
    sink = sum;
  } catch (const core::Error& error) {
    if (error.code() != core::ExitCode::bad_input) std::abort();
  }
  return 0;
}
