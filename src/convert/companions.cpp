// SPDX-License-Identifier: Apache-2.0
#include "convert/companions.hpp"

#include "io/atomic_file.hpp"

namespace caravan::convert {

void write_companions(const std::filesystem::path& from, const std::filesystem::path& to, const std::string& config) {
  io::write_file_atomically(to / "config.json", config);
  for (const char* name : {"tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "generation_config.json"}) {
    if (std::filesystem::exists(from / name)) io::write_file_atomically(to / name, io::read_file(from / name));
  }
}

}  // namespace caravan::convert
