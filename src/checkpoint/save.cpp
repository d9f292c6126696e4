// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/save.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <set>
#include <thread>

#include "comm/agreement.hpp"
#include "core/checksum.hpp"
#include "core/finite.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"
#include "io/durable_file.hpp"
#include "io/hdf5.hpp"

namespace caravan::checkpoint {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

using comm::attempt;
using comm::Failure;

// Throws on all ranks when any rank failed, so that none is left waiting for it.
void agree(comm::Communicator& world, const char* operation, const Failure& failure) {
  const std::int64_t code = world.all_reduce(operation, static_cast<std::int64_t>(failure.code), comm::Reduce::max);
  if (code == 0) return;
  const std::vector<std::string> messages = world.all_gather_text(operation, failure.message);
  const auto first = std::find_if(messages.begin(), messages.end(), [](const auto& text) { return !text.empty(); });
  const auto failed = std::count_if(messages.begin(), messages.end(), [](const auto& text) { return !text.empty(); });
  std::string message = "the checkpoint was not saved: ";
  if (world.size() > 1) message += core::concat("rank ", first - messages.begin(), ": ");
  message += first != messages.end() ? *first : "a rank failed without a reason";
  if (failed > 1) message += core::concat(" (and ", failed - 1, " more ranks)");
  throw comm::AgreedError(static_cast<core::ExitCode>(code), message);
}

std::string shard_name(int rank) {
  char name[32];
  std::snprintf(name, sizeof name, "shard-%05d.h5", rank);
  return name;
}

void prepare_folder(const fs::path& folder) {
  if (fs::exists(folder / "manifest.json")) {
    // Who saves has looked before it began, and holds a lock: another process has come between.
    throw core::Error(core::ExitCode::peer_lost,
                      core::concat(folder.string(), " already holds a checkpoint, which this process has not written; ",
                                   "choose another run folder or remove it"));
  }
  fs::create_directories(folder);
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("shard-") || name == "master.h5" || name.starts_with("manifest.json.")) {
      leftovers.push_back(entry.path());
    }
  }
  for (const fs::path& path : leftovers) fs::remove(path);
}

// A shard that is being written. While one block goes to the storage, the next one is prepared.
struct ShardFile {
  ShardFile(const fs::path& path, const std::function<void()>& hook)
      : name(path.filename().string()), file(io::Hdf5File::create(path)), durable(path), between_blocks(hook) {}

  std::string name;
  io::Hdf5File file;
  io::DurableFile durable;
  const std::function<void()>& between_blocks;
  std::vector<char> block;  // for pieces that do not lie in memory
};

// Rows from row_begin on. What is not finite would poison every run that goes on from it, and older checkpoints are
// deleted for it.
void require_finite(const Piece& piece, std::int64_t row_begin, const void* rows, std::int64_t bytes) {
  const std::int64_t at =
      core::first_not_finite(rows, piece.dtype, bytes / static_cast<std::int64_t>(core::size_of(piece.dtype)));
  if (at < 0) return;
  const std::int64_t width = piece.part.count() / piece.part.extent.at(0);
  throw core::Error(core::ExitCode::numerics,
                    core::concat("tensor ", piece.name, " holds NaN or infinity (row ",
                                 piece.part.offset.at(0) + row_begin + at / width,
                                 "); the checkpoints before are good: go on from one of them with a lower train.lr"));
}

// Writes a piece block by block and returns what the manifest says of it.
StoredPiece write_piece(ShardFile& shard, const Piece& piece, const std::string& dataset) {
  StoredPiece stored{piece.part, shard.name, dataset, rows_per_block(piece.part, piece.dtype), {}};
  io::Hdf5Dataset target = shard.file.create_dataset(dataset, piece.part.extent, piece.dtype);
  const std::int64_t rows = piece.part.extent.at(0);
  const std::int64_t bytes = row_bytes(piece.part, piece.dtype);
  for (std::int64_t begin = 0; begin < rows; begin += stored.block_rows) {
    const std::int64_t end = std::min(rows, begin + stored.block_rows);
    if (shard.between_blocks) shard.between_blocks();
    const auto size = static_cast<std::size_t>((end - begin) * bytes);
    const char* data = static_cast<const char*>(piece.memory);
    if (data) {
      data += begin * bytes;
    } else {
      shard.block.resize(std::max(shard.block.size(), size));
      piece.fill(begin, end, shard.block.data());
      data = shard.block.data();
    }
    require_finite(piece, begin, data, (end - begin) * bytes);
    stored.hashes.push_back(core::checksum(data, size));
    target.write_rows(begin, end, data);
    shard.durable.start_writing();
  }
  return stored;
}

std::string dataset_name(const Piece& piece, bool several) {
  if (!several) return piece.name;
  std::string name = piece.name + "@";
  for (std::size_t d = 0; d < piece.part.offset.size(); ++d) {
    if (d > 0) name += ',';
    name += std::to_string(piece.part.offset[d]);
  }
  return name;
}

json write_shard_file(const fs::path& path, const std::vector<const Piece*>& pieces,
                      const std::function<void()>& between_blocks) {
  std::multiset<std::string> names;
  for (const Piece* piece : pieces) names.insert(piece->name);
  json entries = json::array();
  ShardFile shard(path, between_blocks);
  for (const Piece* piece : pieces) {
    const std::string dataset = dataset_name(*piece, names.count(piece->name) > 1);
    entries.push_back({{"name", piece->name},
                       {"shape", piece->shape},
                       {"dtype", core::name_of(piece->dtype)},
                       {"piece", to_json(write_piece(shard, *piece, dataset))}});
  }
  shard.file.close();
  if (between_blocks) between_blocks();
  shard.durable.sync();
  return {{"shard", shard.name}, {"bytes", fs::file_size(path)}, {"pieces", std::move(entries)}};
}

void add_report(Manifest& manifest, const json& report) {
  manifest.shard_bytes[report.at("shard").get<std::string>()] = report.at("bytes").get<std::int64_t>();
  for (const json& entry : report.at("pieces")) {
    const auto name = entry.at("name").get<std::string>();
    const auto shape = entry.at("shape").get<layout::Shape>();
    const core::DType dtype = core::dtype_from_name(entry.at("dtype").get<std::string>());
    StoredTensor& tensor = manifest.tensors.try_emplace(name, StoredTensor{shape, dtype, {}}).first->second;
    CARAVAN_CHECK(tensor.shape == shape && tensor.dtype == dtype, "ranks disagree on tensor ", name);
    tensor.pieces.push_back(piece_from_json(entry.at("piece")));
  }
}

// One virtual dataset per tensor, over the shards beside it.
void write_master(const fs::path& path, const Manifest& manifest) {
  io::Hdf5File file = io::Hdf5File::create(path);
  io::DurableFile durable(path);
  file.set_attribute("kind", "caravan checkpoint");
  file.set_attribute("program", manifest.program);
  file.set_attribute("step", std::to_string(manifest.step));
  for (const auto& [name, tensor] : manifest.tensors) {
    std::vector<io::VirtualPart> parts;
    for (const StoredPiece& piece : tensor.pieces) parts.push_back({piece.part, piece.shard, piece.dataset});
    file.create_virtual(name, tensor.shape, tensor.dtype, parts);
  }
  file.close();
  durable.sync();
}

// Nobody else can go on from a checkpoint whose shards are seen by the nodes alone that wrote them. A network file
// system may need a moment to show another node's file.
void require_shards_in_sight(const fs::path& folder, const Manifest& manifest) {
  using namespace std::chrono_literals;
  const auto end = std::chrono::steady_clock::now() + 5s;
  while (true) {
    const fs::directory_iterator refreshed(folder);  // opening a folder makes NFS ask the server for its entries anew
    const std::vector<std::string> problems = shard_problems(folder, manifest);
    if (problems.empty()) return;
    if (std::chrono::steady_clock::now() > end) {
      // What was written before stays, and all ranks saw one folder when the run began: the storage does not show it
      // now.
      throw core::Error(
          core::ExitCode::peer_lost,
          core::concat("rank 0 does not find what the ranks have written: ", core::join(problems, " and "),
                       "; run.folder must be one folder, on a file system that all nodes share"));
    }
    std::this_thread::sleep_for(100ms);
  }
}

void write_manifest(const SaveRequest& request, int world, const std::vector<std::string>& reports,
                    const std::function<void()>& moved) {
  const auto went_on = [&] {
    if (moved) moved();
  };
  Manifest manifest;
  manifest.step = request.step;
  manifest.program = request.program;
  manifest.layout = {world, request.tp, request.ep};
  manifest.store = request.store;
  manifest.state = request.state;
  for (const std::string& report : reports) {
    if (!report.empty()) add_report(manifest, core::parse_json(report));
  }
  for (const auto& [name, tensor] : manifest.tensors) {
    const std::string problem = coverage_problem(tensor);
    CARAVAN_CHECK(problem.empty(), "tensor ", name, ": ", problem);
  }
  for (const std::string& name : request.tensors) {
    CARAVAN_CHECK(manifest.tensors.contains(name), "no rank has saved any of tensor ", name);
  }
  require_shards_in_sight(request.folder, manifest);
  went_on();
  write_master(request.folder / "master.h5", manifest);
  went_on();
  manifest.master_bytes = static_cast<std::int64_t>(fs::file_size(request.folder / "master.h5"));
  io::fsync_folder(request.folder);
  went_on();
  io::write_file_atomically(request.folder / "manifest.json", manifest.to_text());
  went_on();
}

}  // namespace

void save(comm::Communicator& world, const SaveRequest& request, const std::vector<Piece>& pieces) {
  prepare(world, request);
  commit(world, request, write_shard(request.folder, world.rank(), pieces));
}

void prepare(comm::Communicator& world, const SaveRequest& request) {
  Failure failure;
  if (world.rank() == 0) failure = attempt([&] { prepare_folder(request.folder); });
  agree(world, "checkpoint prepare", failure);
}

ShardReport write_shard(const fs::path& folder, int rank, const std::vector<Piece>& pieces,
                        const std::function<void()>& between_blocks) {
  ShardReport report;
  const fs::path path = folder / shard_name(rank);
  report.failure = attempt([&] {
    std::vector<const Piece*> full;
    for (const Piece& piece : pieces) {
      CARAVAN_CHECK(!piece.shape.empty() && layout::element_count(piece.shape) > 0, piece.name,
                    " has no dimension or no element");
      if (piece.part.count() > 0) full.push_back(&piece);
    }
    if (full.empty()) return;
    // Another node may not see yet that rank 0 made the folder; asking for it again makes it look.
    fs::create_directories(folder);
    report.shard = core::json_text(write_shard_file(path, full, between_blocks));
    io::fsync_folder(folder);
    if (folder.has_parent_path()) io::fsync_folder(folder.parent_path());
  });
  if (report.failure.code != core::ExitCode::done) {
    std::error_code ignored;
    fs::remove(path, ignored);
  }
  return report;
}

void commit(comm::Communicator& world, const SaveRequest& request, const ShardReport& report) {
  const std::vector<std::string> reports = gather_reports(world, request, report);
  Failure failure;
  if (world.rank() == 0) failure = commit_shards(request, world.size(), reports);
  agree_on_commit(world, failure);
}

std::vector<std::string> gather_reports(comm::Communicator& world, const SaveRequest& request,
                                        const ShardReport& report) {
  try {
    agree(world, "checkpoint shards", report.failure);
  } catch (const comm::AgreedError&) {
    // Whole shards of a save that failed would only fill the storage further.
    std::error_code ignored;
    fs::remove(request.folder / shard_name(world.rank()), ignored);
    throw;
  }
  return world.gather_text("checkpoint pieces", report.shard, 0);
}

Failure commit_shards(const SaveRequest& request, int world, const std::vector<std::string>& reports,
                      const std::function<void()>& moved) {
  return attempt([&] { write_manifest(request, world, reports, moved); });
}

void agree_on_commit(comm::Communicator& world, const Failure& failure) { agree(world, "checkpoint commit", failure); }

StoreReference store_reference(const fs::path& store, const fs::path& checkpoint) {
  StoreReference reference = identify_store(store);
  const fs::path from = fs::absolute(store).lexically_normal();
  const fs::path to = fs::absolute(checkpoint).lexically_normal();
  const bool siblings = from.parent_path() == to.parent_path();
  reference.folder = siblings ? fs::path("..") / from.filename() : from;
  return reference;
}

}  // namespace caravan::checkpoint
