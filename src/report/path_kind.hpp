// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace caravan::report {

enum class PathKind { checkpoint, run, packed, model, adapter, safetensors, configuration };

/// What a path is, or belongs to.
struct Subject {
  PathKind kind = PathKind::checkpoint;
  std::filesystem::path path;  // of the whole: a checkpoint's folder for one of its shards
};

/// Looks at names and first bytes only. Throws (exit 2) when the path is missing, or nothing that info knows.
Subject find_subject(const std::filesystem::path& path);

}  // namespace caravan::report
