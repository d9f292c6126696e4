// SPDX-License-Identifier: Apache-2.0
// manifest.json of a checkpoint; docs/checkpoint-format.md describes every field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/dtype.hpp"
#include "core/system_error.hpp"
#include "layout/rectangle.hpp"

namespace caravan::checkpoint {

/// A piece as it lies in a shard.
struct StoredPiece {
  layout::Rectangle part;
  std::string shard;    // file name
  std::string dataset;  // of part's extent
  std::int64_t block_rows = 1;
  std::vector<std::string> hashes;  // one per block of block_rows rows of the piece, the last one shorter
};

struct StoredTensor {
  layout::Shape shape;
  core::DType dtype = core::DType::f32;
  std::vector<StoredPiece> pieces;  // cover every element exactly once
};

/// The step-0 checkpoint that holds the frozen tensors of a later one.
struct StoreReference {
  std::filesystem::path folder;  // relative to the folder of the checkpoint that refers to it, or absolute
  std::string manifest_hash;     // checksum of the store's manifest.json
  std::string content{};         // content_of the store; empty in checkpoints of older versions
};

/// The ranks that wrote a checkpoint. Any other layout can read it.
struct SavedLayout {
  int world = 1;
  int tp = 1;
  int ep = 1;
};

/// A checkpoint that this program is too old to read (exit 2).
class NewerVersion : public core::Error {
 public:
  explicit NewerVersion(const std::string& message) : core::Error(core::ExitCode::bad_input, message) {}
};

struct Manifest {
  static constexpr std::int64_t newest_version = 1;

  std::int64_t step = 0;
  std::string program;
  SavedLayout layout;
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::int64_t> shard_bytes;  // by file name
  std::int64_t master_bytes = 0;
  std::optional<StoreReference> store;
  nlohmann::json state = nlohmann::json::object();

  /// The file's text, with the checksum of the rest.
  std::string to_text() const;

  /// Reads FOLDER/manifest.json. Throws (exit 2) naming the file when it is missing, damaged, or its pieces do not
  /// cover their tensors; NewerVersion when a newer version wrote it (both numbers are named); core::SystemError when
  /// the system does not give its bytes.
  static Manifest read(const std::filesystem::path& folder);
};

/// Checksum of what a store holds: what it was made from (state.upcycle), and names, shapes, types and checksums of its
/// tensors. The same whichever version of the program wrote it, on how many ranks, and into which shards.
std::string content_of(const Manifest& manifest);

/// The store in this folder as it is now. Throws as Manifest::read does.
StoreReference identify_store(const std::filesystem::path& folder);

/// Whether a store as it is now is the one that was recorded, or one that was made again from the same: by its content;
/// by its manifest where the record is an older version's.
bool is_same_store(const StoreReference& recorded, const StoreReference& now);

/// What is wrong with a tensor's pieces (outside of it, overlapping, not covering it); empty when nothing is.
std::string coverage_problem(const StoredTensor& tensor);

/// Whether an error that reading a checkpoint threw says that the checkpoint is damaged: something is missing or not as
/// it was written. Not when the system refused: a storage that fails, or a file that this user must not read; nor when
/// a newer program wrote it.
bool is_damage(const core::Error& error);

/// Why the shards in the folder cannot be the manifest's (missing, or of another size); empty when all fit. Throws
/// core::SystemError when the system cannot say.
std::vector<std::string> shard_problems(const std::filesystem::path& folder, const Manifest& manifest);
/// The same for one shard.
std::optional<std::string> shard_problem(const std::filesystem::path& folder, const Manifest& manifest,
                                         const std::string& shard);

nlohmann::json to_json(const StoredPiece& piece);
StoredPiece piece_from_json(const nlohmann::json& json);

}  // namespace caravan::checkpoint
