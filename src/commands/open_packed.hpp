// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "commands/session.hpp"
#include "data/packed_file.hpp"

namespace caravan::commands {

/// Opens packed files on all ranks, which must find the same ones. Their bytes are read
/// and verified once: by the lowest rank that sees this very file, so that a copy on a node of its own is verified
/// there. Collective. Throws AgreedError as PackedFile does, and (exit 2) one message with all files that differ.
std::vector<data::PackedFile> open_packed(const Session& session, const std::vector<std::string>& paths);

/// Says on rank 0 which settings of [data] the file was not prepared with; training goes on with the file.
void warn_of_other_settings(const Session& session, const data::PackedFile& packed);

/// What a checkpoint says of the file that it was trained on: `data`, its checksum; `data_content`, that of its tokens;
/// `packed`, its metadata.
nlohmann::json facts_of(const data::PackedFile& packed);

/// Whether `state`, of a checkpoint, says that it was trained on these tokens. One of an older version knows the
/// checksum of the whole file only.
bool is_same_data(const nlohmann::json& state, const data::PackedFile& packed);

/// Throws (exit 2) when `state`, of the checkpoint in `folder`, says that it was trained on other tokens.
void require_same_data(const nlohmann::json& state, const std::string& folder, const data::PackedFile& packed);

}  // namespace caravan::commands
