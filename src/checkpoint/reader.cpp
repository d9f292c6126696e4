// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/reader.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <set>

#include "checkpoint/piece.hpp"
#include "core/checksum.hpp"
#include "core/error.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"
#include "io/copy_converted.hpp"

namespace caravan::checkpoint {
namespace {

namespace fs = std::filesystem;

std::int64_t block_end(const StoredPiece& piece, std::int64_t block) {
  return std::min((block + 1) * piece.block_rows, piece.part.extent[0]);
}

// The box of the global tensor that a block covers.
layout::Rectangle box_of(const StoredPiece& piece, std::int64_t block) {
  layout::Rectangle box = piece.part;
  box.offset[0] += block * piece.block_rows;
  box.extent[0] = block_end(piece, block) - block * piece.block_rows;
  return box;
}

// A quarter of what this process may open. With fewer than the checkpoint has shards, reading tensor after tensor opens
// them again and again.
std::size_t most_open_files() {
  rlimit limit{};
  const bool known = ::getrlimit(RLIMIT_NOFILE, &limit) == 0;
  return known ? std::clamp<std::size_t>(limit.rlim_cur / 4, 16, 4096) : 64;
}

}  // namespace

CheckpointReader::CheckpointReader(const fs::path& folder) : folder_(folder), manifest_(Manifest::read(folder)) {}

std::vector<std::string> CheckpointReader::own_tensor_names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : manifest_.tensors) names.push_back(name);
  return names;
}

std::vector<std::string> CheckpointReader::tensor_names() const {
  const std::vector<std::string> own_names = own_tensor_names();
  std::set<std::string> names(own_names.begin(), own_names.end());
  if (const CheckpointReader* frozen = store_reader()) {
    for (const std::string& name : frozen->own_tensor_names()) names.insert(name);
  }
  return {names.begin(), names.end()};
}

void CheckpointReader::attach_store(const fs::path& folder) {
  if (!manifest_.store) core::bad_input(folder_.string(), " has its frozen tensors itself and takes no store");
  auto reader = std::make_unique<CheckpointReader>(folder);
  if (!is_same_store(*manifest_.store, identify_store(folder))) {
    core::bad_input(folder.string(), " is not the store that ", folder_.string(),
                    " was trained from: its tensors or what they were made from differ; set model.store to the step-0 "
                    "checkpoint of that run");
  }
  store_ = std::move(reader);
}

const CheckpointReader* CheckpointReader::store_reader() const {
  if (manifest_.store && !store_) {
    const fs::path recorded = manifest_.store->folder;
    const fs::path folder = recorded.is_absolute() ? recorded : (folder_ / recorded).lexically_normal();
    if (!fs::exists(folder / "manifest.json")) {
      core::bad_input(folder_.string(), ": its frozen tensors are in ", folder.string(),
                      ", which is not there; if it was moved, set model.store");
    }
    // Opening is no change that a caller could see.
    const_cast<CheckpointReader*>(this)->attach_store(folder);
  }
  return store_.get();
}

bool CheckpointReader::contains(const std::string& name) const {
  if (holds(name)) return true;
  const CheckpointReader* frozen = store_reader();
  return frozen != nullptr && frozen->holds(name);
}

layout::TensorSource::Info CheckpointReader::info(const std::string& name) const {
  if (!holds(name)) {
    const CheckpointReader* frozen = store_reader();
    if (frozen != nullptr && frozen->holds(name)) return frozen->info(name);
  }
  const StoredTensor& tensor = own(name);
  return {tensor.shape, tensor.dtype};
}

const StoredTensor& CheckpointReader::own(const std::string& name) const {
  const auto found = manifest_.tensors.find(name);
  if (found == manifest_.tensors.end()) {
    const std::string nearest = core::nearest_match(name, tensor_names());
    core::bad_input(folder_.string(), ": there is no tensor ", name,
                    nearest.empty() ? "" : "; the nearest name is " + nearest);
  }
  return found->second;
}

void CheckpointReader::read(const std::string& name, const layout::Rectangle& part, core::DType dtype,
                            void* target) const {
  if (!holds(name)) {
    const CheckpointReader* frozen = store_reader();
    if (frozen != nullptr && frozen->holds(name)) return frozen->read(name, part, dtype, target);
  }
  const StoredTensor& tensor = own(name);
  if (part.count() == 0) return;
  CARAVAN_CHECK(
      part.extent.size() == tensor.shape.size() && layout::intersect(part, layout::whole(tensor.shape)) == part, name,
      ": the part ", layout::to_string(part.extent), " at ", layout::to_string(part.offset), " is outside of ",
      layout::to_string(tensor.shape));
  if (!io::convertible(tensor.dtype, dtype)) {
    core::bad_input(folder_.string(), ": tensor ", name, " holds ", core::name_of(tensor.dtype), ", but ",
                    core::name_of(dtype), " is needed");
  }
  for (const StoredPiece& piece : tensor.pieces) {
    const auto both = layout::intersect(piece.part, part);
    if (!both) continue;
    const std::int64_t first_row = both->offset[0] - piece.part.offset[0];
    const std::int64_t last_row = first_row + both->extent[0] - 1;
    for (std::int64_t block = first_row / piece.block_rows; block <= last_row / piece.block_rows; ++block) {
      const std::vector<char>& bytes = block_of(name, tensor, piece, block);
      const layout::Rectangle box = box_of(piece, block);
      io::copy_converted(*layout::intersect(box, part), box, bytes.data(), tensor.dtype, part, target, dtype);
    }
  }
}

io::Hdf5Dataset CheckpointReader::open_dataset(const StoredTensor& tensor, const StoredPiece& piece) const {
  auto open = shards_.find(piece.shard);
  if (open == shards_.end()) {
    if (const auto problem = shard_problem(folder_, manifest_, piece.shard)) core::bad_input(*problem);
    if (shards_.size() >= most_open_files()) shards_.clear();
    open = shards_.emplace(piece.shard, io::Hdf5File::open(folder_ / piece.shard)).first;
  }
  io::Hdf5Dataset dataset = open->second.dataset(piece.dataset);
  if (dataset.shape() != piece.part.extent || dataset.dtype() != tensor.dtype) {
    core::bad_input((folder_ / piece.shard).string(), ", dataset ", piece.dataset, ": ", core::name_of(dataset.dtype()),
                    " ", layout::to_string(dataset.shape()), " instead of ", core::name_of(tensor.dtype), " ",
                    layout::to_string(piece.part.extent));
  }
  return dataset;
}

void CheckpointReader::read_block(const std::string& name, const StoredTensor& tensor, const StoredPiece& piece,
                                  std::int64_t block, std::vector<char>& bytes) const {
  const layout::Rectangle box = box_of(piece, block);
  const std::string rows =
      core::concat("tensor ", name, ", rows ", box.offset[0], " to ", box.offset[0] + box.extent[0] - 1);
  try {
    bytes.resize(static_cast<std::size_t>(box.extent[0] * row_bytes(box, tensor.dtype)));
    open_dataset(tensor, piece).read_rows(block * piece.block_rows, block_end(piece, block), bytes.data());
  } catch (const core::SystemError& error) {
    throw core::SystemError(error.system_error(), core::concat(error.what(), " (", rows, ")"));
  } catch (const core::Error& error) {
    throw core::Error(error.code(), core::concat(error.what(), " (", rows, ")"));
  }
  if (core::checksum(bytes.data(), bytes.size()) != piece.hashes.at(static_cast<std::size_t>(block))) {
    core::bad_input((folder_ / piece.shard).string(), ": ", rows,
                    ": the checksum differs: the file is damaged; go back to an earlier checkpoint");
  }
}

const std::vector<char>& CheckpointReader::block_of(const std::string& name, const StoredTensor& tensor,
                                                    const StoredPiece& piece, std::int64_t block) const {
  if (last_.piece != &piece || last_.index != block) {
    last_.piece = nullptr;  // should reading throw, what is there now is neither the old block nor a good one
    read_block(name, tensor, piece, block, last_.bytes);
    last_.piece = &piece;
    last_.index = block;
  }
  return last_.bytes;
}

std::vector<std::string> CheckpointReader::verify() const {
  std::vector<std::string> problems = shard_problems(folder_, manifest_);
  for (const auto& [name, tensor] : manifest_.tensors) {
    std::vector<char> bytes;
    for (const StoredPiece& piece : tensor.pieces) {
      if (shard_problem(folder_, manifest_, piece.shard)) continue;  // said once, above
      for (std::size_t block = 0; block < piece.hashes.size(); ++block) {
        try {
          read_block(name, tensor, piece, static_cast<std::int64_t>(block), bytes);
        } catch (const core::Error& error) {
          if (error.code() != core::ExitCode::bad_input) throw;
          problems.emplace_back(error.what());
        }
      }
    }
  }
  if (io::size_of_file(folder_ / "master.h5") != manifest_.master_bytes) {
    problems.push_back((folder_ / "master.h5").string() +
                       " is missing or has another size; it only serves other programs");
  }
  try {
    store_reader();
  } catch (const core::Error& store_error) {
    if (store_error.code() != core::ExitCode::bad_input) throw;
    problems.emplace_back(store_error.what());
  }
  return problems;
}

}  // namespace caravan::checkpoint
