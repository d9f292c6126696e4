// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/manifest.hpp"
#include "io/hdf5.hpp"
#include "layout/tensor_source.hpp"

namespace caravan::checkpoint {

/// Reads a committed checkpoint at any layout. The tensors are its own and those of the step-0 checkpoint that it
/// refers to (its store: the frozen ones), which is opened when first needed. Every block is checked against its
/// checksum before it is used; the last one stays in memory (16 MiB, or one row where that is longer; as much again for
/// the store), so that reading a tensor some rows at a time reads no block twice. For one thread at a time.
class CheckpointReader : public layout::TensorSource {
 public:
  /// Throws (exit 2) as Manifest::read does. Shards are opened, and their sizes checked, when they are needed.
  explicit CheckpointReader(const std::filesystem::path& folder);

  std::int64_t step() const { return manifest_.step; }
  const nlohmann::json& state() const { return manifest_.state; }
  const std::string& program() const { return manifest_.program; }
  /// The layout that wrote it.
  const SavedLayout& layout() const { return manifest_.layout; }
  const std::optional<StoreReference>& store() const { return manifest_.store; }

  /// Ascending; the store's only in the second.
  std::vector<std::string> own_tensor_names() const;
  std::vector<std::string> tensor_names() const;
  /// Whether the tensor is in this checkpoint itself: a trained tensor must be, or training would go on from step 0's.
  bool holds(const std::string& name) const { return manifest_.tensors.contains(name); }

  /// Reads frozen tensors from this folder instead of the recorded one. Throws (exit 2) when it is another store: see
  /// is_same_store.
  void attach_store(const std::filesystem::path& folder);

  bool contains(const std::string& name) const override;
  Info info(const std::string& name) const override;
  /// Reads the blocks that the part touches. Refuses (exit 2) missing, truncated or damaged shards by file, tensor and
  /// rows. What the system refuses to read is no damage: core::SystemError, see is_damage.
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override;
  std::string where() const override { return folder_.string(); }

  /// Reads everything that this checkpoint itself holds, and the store's manifest. One line per problem. Throws
  /// core::SystemError (exit 76) when the storage fails.
  std::vector<std::string> verify() const;

 private:
  const StoredTensor& own(const std::string& name) const;
  const CheckpointReader* store_reader() const;
  io::Hdf5Dataset open_dataset(const StoredTensor& tensor, const StoredPiece& piece) const;
  /// Reads a block from its file, whatever is in memory, and checks it.
  void read_block(const std::string& name, const StoredTensor& tensor, const StoredPiece& piece, std::int64_t block,
                  std::vector<char>& bytes) const;
  /// A block's checked bytes, until the next call.
  const std::vector<char>& block_of(const std::string& name, const StoredTensor& tensor, const StoredPiece& piece,
                                    std::int64_t block) const;

  struct Block {
    const StoredPiece* piece = nullptr;  // one of manifest_; null: nothing read, or not yet checked
    std::int64_t index = 0;
    std::vector<char> bytes;
  };

  std::filesystem::path folder_;
  Manifest manifest_;
  mutable std::map<std::string, io::Hdf5File> shards_;
  mutable std::unique_ptr<CheckpointReader> store_;
  mutable Block last_;
};

}  // namespace caravan::checkpoint
