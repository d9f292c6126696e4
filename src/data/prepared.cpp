// SPDX-License-Identifier: Apache-2.0
#include "data/prepared.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "core/system_error.hpp"
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

std::optional<struct stat> facts_of(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) return std::nullopt;
  return facts;
}

/// Whether what is known without reading it says that the source is still the one that was packed. As make does, it
/// takes what is older than its result for unchanged. The time of the last change of status would also tell of a file
/// that was renamed over the source with an older time; but after chmod, or where source and result were copied with
/// their times, it would have the whole source read in every call.
bool is_untouched(const std::string& source, const PackedFile& packed) {
  const auto now = facts_of(source), result = facts_of(packed.path());
  if (!now || !result || packed.metadata().source_bytes != static_cast<std::uint64_t>(now->st_size)) return false;
  const auto time = [](const timespec& at) { return std::pair(at.tv_sec, at.tv_nsec); };
  return time(now->st_mtim) < time(result->st_mtim);
}

/// Whether the source of the packed file's name has other bytes by now, as far as they are looked at and can be read.
bool has_changed(const std::string& source, const PackedFile& packed, SourceCheck check) {
  if (check == SourceCheck::name || (check == SourceCheck::quick && is_untouched(source, packed))) return false;
  const auto found = fingerprint_of(source);
  return found && *found != packed.metadata().source_fingerprint;
}

void compare_tokenizer(std::vector<std::string>& differences, const PackedFile& packed, const std::string& path) {
  // Who compares need not have it; who prepares opens it.
  if (!fs::exists(fs::is_directory(path) ? fs::path(path) / "tokenizer.model" : fs::path(path))) return;
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = open_tokenizer(path);
  } catch (const core::SystemError&) {
    throw;
  } catch (const core::Error& error) {
    differences.push_back(core::concat("the tokenizer cannot be read: ", error.what()));
    return;
  }
  for (const std::string& other : other_tokenizer(packed, *tokenizer)) {
    differences.push_back(core::concat("the tokenizer is ", tokenizer->path(), ": ", other));
  }
}

}  // namespace

std::vector<std::string> other_settings(const PackedFile& packed, const Options& options, std::int64_t sequence,
                                        SourceCheck check) {
  const PackedMetadata& made = packed.metadata();
  std::vector<std::string> differences;
  if (!options.source.empty()) {
    const std::string name = fs::path(options.source).filename().string();
    if (name != made.source) {
      differences.push_back(core::concat("data.source = ", options.source, ", but it was ", made.source));
    } else if (has_changed(options.source, packed, check)) {
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

std::vector<std::string> other_tokenizer(const PackedFile& packed, const Tokenizer& tokenizer) {
  const PackedMetadata& made = packed.metadata();
  if (made.tokenizer == tokenizer.fingerprint()) return {};
  if (!tokenizer.matches(made.tokenizer)) {
    std::vector<std::string> differences = describe_differences(tokenizer.identity(), made.tokenizer_identity);
    if (differences.empty()) differences.emplace_back("tokenizer.model is another file than it was");
    return differences;
  }
  // A fingerprint of earlier versions says nothing of the files beside tokenizer.model.
  if (tokenizer.eos_id() < 0) return {};
  for (const std::int32_t last : packed.last_tokens()) {
    if (last == tokenizer.eos_id()) continue;
    return {core::concat("eos_token is \"", tokenizer.eos_text(), "\" (id ", tokenizer.eos_id(),
                         "), but a record ends with the token ", last)};
  }
  return {};
}

Prepared prepared(const Options& options, std::int64_t sequence, const std::string& base_folder, SourceCheck check) {
  Prepared result;
  if (options.packed.empty() || !fs::exists(options.packed)) return result;
  result.there = options.held_out_every == 0 || fs::exists(held_out_path(options));
  const PackedFile packed(options.packed, PackedFile::Check::header);
  result.differences = other_settings(packed, options, sequence, check);
  compare_tokenizer(result.differences, packed, tokenizer_path(options, base_folder));
  if (options.held_out_every == 0 || !result.there) return result;
  // Both come from one run of prepare; what it says of the held-out file says it of the other one.
  const PackedFile held_out(held_out_path(options), PackedFile::Check::header);
  PackedMetadata expected = packed.metadata();
  expected.part = "held_out";
  expected.largest_id = held_out.metadata().largest_id;
  if (to_json(held_out.metadata()) != to_json(expected)) {
    result.differences.push_back(core::concat(held_out.path(), " was not made together with ", packed.path()));
  }
  return result;
}

}  // namespace caravan::data
