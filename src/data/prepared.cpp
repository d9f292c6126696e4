// SPDX-License-Identifier: Apache-2.0
#include "data/prepared.hpp"

#include <filesystem>
#include <optional>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "core/system_error.hpp"
#include "data/tokenizer.hpp"
#include "io/mapped_file.hpp"

namespace caravan::data {
namespace {

namespace fs = std::filesystem;

template <typename T>
void compare(std::vector<std::string>& differences, const char* key, const T& now, const T& made) {
  if (now != made) differences.push_back(core::concat(key, " = ", now, ", but it was ", made));
}

/// XXH3-64 of a file; nothing when it is not there or cannot be read.
std::optional<std::string> fingerprint_of(const std::string& path) {
  try {
    const io::MappedFile file(path);
    return core::checksum(file.data(), file.size());
  } catch (const core::Error&) {
    return std::nullopt;
  }
}

void compare_tokenizer(std::vector<std::string>& differences, const PackedMetadata& made, const std::string& path) {
  const fs::path model = fs::is_directory(path) ? fs::path(path) / "tokenizer.model" : fs::path(path);
  const auto found = fingerprint_of(model.string());
  if (!found || *found == made.tokenizer) return;
  differences.push_back(core::concat("the tokenizer is ", model.string(), ", but it was another one"));
}

}  // namespace

std::vector<std::string> other_settings(const PackedMetadata& made, const Options& options, std::int64_t sequence) {
  std::vector<std::string> differences;
  if (!options.source.empty()) {
    const std::string name = fs::path(options.source).filename().string();
    if (name != made.source) {
      differences.push_back(core::concat("data.source = ", options.source, ", but it was ", made.source));
    } else if (const auto found = fingerprint_of(options.source); found && *found != made.source_fingerprint) {
      differences.push_back(core::concat("data.source = ", options.source, ", which has changed since"));
    }
  }
  compare(differences, "data.template", std::string(core::spelling(options.prompt_template)), made.template_name);
  compare(differences, "data.packing", std::string(core::spelling(options.packing)), made.packing);
  compare(differences, "data.held_out_every", options.held_out_every, made.held_out_every);
  if (made.max_prompt) compare(differences, "data.max_prompt", options.max_prompt, *made.max_prompt);
  compare(differences, "train.sequence", sequence, made.sequence);
  return differences;
}

Prepared prepared(const Options& options, std::int64_t sequence, const std::string& base_folder) {
  Prepared result;
  if (options.packed.empty() || !fs::exists(options.packed)) return result;
  if (options.held_out_every > 0 && !fs::exists(held_out_path(options))) return result;
  result.there = true;
  const PackedFile packed(options.packed, PackedFile::Check::header);
  result.differences = other_settings(packed.metadata(), options, sequence);
  compare_tokenizer(result.differences, packed.metadata(), tokenizer_path(options, base_folder));
  if (options.held_out_every == 0) return result;
  // Both come from one run of prepare; what it says of the held-out file says it of the other one.
  PackedMetadata expected = packed.metadata();
  expected.part = "held_out";
  const PackedFile held_out(held_out_path(options), PackedFile::Check::header);
  if (to_json(held_out.metadata()) != to_json(expected)) {
    result.differences.push_back(core::concat(held_out.path(), " was not made together with ", packed.path()));
  }
  return result;
}

}  // namespace caravan::data
