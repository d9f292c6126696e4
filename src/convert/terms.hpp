// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace caravan::convert {

/// The names of a folder's files that say on what terms its model may be used, in order: LICENSE, NOTICE,
/// USE_POLICY and the like, with any ending.
std::vector<std::string> files_of_terms(const std::filesystem::path& folder);

/// Copies them.
void copy_terms(const std::filesystem::path& from, const std::filesystem::path& to);

/// Where the checkpoint of step 0 keeps the base's README.md, whose head names the license.
inline constexpr const char* base_card_file = "base-README.md";

/// As copy_terms(), and the base's README.md as base_card_file: for a checkpoint, whose base may be gone later.
void keep_terms(const std::filesystem::path& base, const std::filesystem::path& checkpoint);

/// A license in the words of a Hugging Face card's head.
struct License {
  std::string id;    // "apache-2.0", "llama2", "other"; empty: not known
  std::string name;  // of an "other" one
  std::string link;
};

/// The license of a base, or of a checkpoint that keeps its terms: what the head of its card says, else what the texts
/// of its LICENSE files are recognised as ("other", with a link to one, where they are not all the same known one).
License license_of(const std::filesystem::path& folder);

}  // namespace caravan::convert
