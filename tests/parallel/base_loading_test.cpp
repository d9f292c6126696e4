// SPDX-License-Identifier: Apache-2.0
// Every row of the base is read once in the job, and reaches every rank that holds a part of it.
#include "parallel/base_loading.hpp"

#include <ATen/ATen.h>

#include <fstream>
#include <optional>

#include "comm/agreement.hpp"
#include "parallel/parameters.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/parallel/naive.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"

namespace caravan::tests {
namespace {

using core::DType;
using layout::Axis;
using layout::Split;
using Specs = std::vector<layout::ParameterSpec>;

// Every kind of split, both storage types, tensors with fewer rows than ranks.
const Specs specs{
    {"embedding", {12, 5}, DType::f32, Split{0, Axis::tp}},
    {"norm", {7}, DType::bf16, {}},
    {"column", {8, 6}, DType::bf16, Split{0, Axis::tp}},
    {"column bias", {8}, DType::bf16, Split{0, Axis::tp}},
    {"row", {5, 8}, DType::bf16, Split{1, Axis::tp}},
    {"one row", {1, 8}, DType::f32, Split{1, Axis::tp}},
    {"number", {1}, DType::f32, {}},
    {"experts", {4, 3, 2}, DType::f32, Split{0, Axis::ep}},
    {"expert rows", {4, 2, 4}, DType::bf16, Split{2, Axis::tp}},
};

std::int64_t elements_of(const Specs& all) {
  std::int64_t count = 0;
  for (const layout::ParameterSpec& spec : all) count += layout::element_count(spec.shape);
  return count;
}

/// Noise in the storage types. Writes down which rows are read, and holds every read against the promise: whole rows,
/// each read beginning where the one before it ended.
class CountingSource final : public layout::TensorSource {
 public:
  explicit CountingSource(const Specs& all) : specs_(all) {
    for (const layout::ParameterSpec& spec : all) {
      values[spec.name] = noise(spec.shape, spec.name).to(parallel::scalar_type_of(spec.storage));
      reads[spec.name].resize(static_cast<std::size_t>(spec.shape[0]));
    }
  }

  bool contains(const std::string& name) const override { return values.contains(name); }
  Info info(const std::string& name) const override {
    return {values.at(name).sizes().vec(), parallel::dtype_of(values.at(name).scalar_type())};
  }
  void read(const std::string& name, const layout::Rectangle& part, DType dtype, void* target) const override {
    if (number_of_reads++ == failing_read) core::bad_input("the file: tensor ", name, " is damaged");
    const at::Tensor& whole = values.at(name);
    layout::Rectangle rows = layout::whole(whole.sizes().vec());
    rows.offset[0] = part.offset[0];
    rows.extent[0] = part.extent[0];
    CHECK(part == rows);
    CHECK(part.count() > 0);
    std::size_t tensor = 0;
    while (specs_[tensor].name != name) ++tensor;
    const bool goes_on = tensor == next_tensor_ && part.offset[0] == next_row_;
    CHECK((number_of_reads == 1 || goes_on));
    for (std::int64_t row = part.offset[0]; row < part.offset[0] + part.extent[0]; ++row) {
      ++reads[name][static_cast<std::size_t>(row)];
    }
    next_tensor_ = tensor;
    next_row_ = part.offset[0] + part.extent[0];
    if (next_row_ == whole.size(0)) {
      ++next_tensor_;
      next_row_ = 0;
    }
    read_elements += part.count();
    targets.emplace_back(static_cast<const char*>(target), part.count());
    const at::Tensor box = part_of(whole, part).contiguous();
    core::convert(box.data_ptr(), parallel::dtype_of(box.scalar_type()), target, dtype,
                  static_cast<std::size_t>(box.numel()));
  }
  std::string where() const override { return "memory"; }

  std::map<std::string, at::Tensor> values;
  int failing_read = -1;
  mutable int number_of_reads = 0;
  mutable std::map<std::string, std::vector<std::int64_t>> reads;  // of every row, by this rank
  mutable std::int64_t read_elements = 0;
  mutable std::vector<std::pair<const char*, std::int64_t>> targets;

 private:
  const Specs& specs_;
  mutable std::size_t next_tensor_ = 0;
  mutable std::int64_t next_row_ = 0;
};

/// The world, with an eye on the buffers of its all-to-alls, in elements.
class WatchedWorld final : public comm::Communicator {
 public:
  explicit WatchedWorld(comm::Communicator& world) : world_(world) {}
  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  const std::string& name() const override { return world_.name(); }
  comm::Pending all_reduce(const char* operation, void* data, std::int64_t count, DType dtype, comm::Reduce reduce,
                           const device::Place& place) override {
    return world_.all_reduce(operation, data, count, dtype, reduce, place);
  }
  comm::Pending all_gather(const char* operation, const void* send, void* receive, const Counts& counts, DType dtype,
                           const device::Place& place) override {
    return world_.all_gather(operation, send, receive, counts, dtype, place);
  }
  comm::Pending reduce_scatter(const char* operation, const void* send, void* receive, const Counts& counts,
                               DType dtype, const device::Place& place) override {
    return world_.reduce_scatter(operation, send, receive, counts, dtype, place);
  }
  comm::Pending all_to_all(const char* operation, const void* send, const Counts& send_counts, void* receive,
                           const Counts& receive_counts, DType dtype, const device::Place& place) override {
    ++exchanges;
    most_sent = std::max(most_sent, std::accumulate(send_counts.begin(), send_counts.end(), std::int64_t{0}));
    most_received =
        std::max(most_received, std::accumulate(receive_counts.begin(), receive_counts.end(), std::int64_t{0}));
    return world_.all_to_all(operation, send, send_counts, receive, receive_counts, dtype, place);
  }
  comm::Pending broadcast(const char* operation, void* data, std::int64_t count, DType dtype, int root,
                          const device::Place& place) override {
    return world_.broadcast(operation, data, count, dtype, root, place);
  }
  void barrier(const char* operation) override { world_.barrier(operation); }

  std::int64_t exchanges = 0, most_sent = 0, most_received = 0;

 private:
  comm::Communicator& world_;
};

/// This rank's slices, loaded.
struct Base {
  Base(comm::Communicator& world, const OnGrid& grid, const layout::TensorSource& source, const Specs& all,
       std::int64_t buffer_bytes) {
    std::vector<parallel::BaseTensor> tensors;
    for (const layout::ParameterSpec& spec : all) {
      const layout::Shape& extent = layout::slice_of(spec, grid.context.grid).extent;
      slices.push_back(at::zeros(extent, at::TensorOptions(grid.context.compute)));
      tensors.push_back({spec, slices.back().data_ptr()});
    }
    parallel::load_base(world, grid.context.grid, source, parallel::dtype_of(grid.context.compute), tensors,
                        buffer_bytes);
  }
  std::vector<at::Tensor> slices;
};

/// Every row of a tensor has been read once in the whole world. Collective.
void check_reads(comm::Communicator& world, const CountingSource& source, const std::string& name) {
  std::vector<std::int64_t>& reads = source.reads.at(name);
  world.all_reduce("count reads", reads.data(), static_cast<std::int64_t>(reads.size()), DType::i64, comm::Reduce::sum)
      .wait();
  CHECK(reads == std::vector<std::int64_t>(reads.size(), 1));
}

void check_loading(const Specs& all, int tp, int ep, at::ScalarType compute, std::int64_t buffer_bytes) {
  CAPTURE(tp, ep, at::toString(compute), buffer_bytes);
  const OnGrid grid(tp, ep, compute);
  comm::Communicator& world = *grid.groups.world;
  const CountingSource source(all);
  const Base base(world, grid, source, all, buffer_bytes);
  std::int64_t longest = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(all[i].name);
    const at::Tensor& whole = source.values.at(all[i].name);
    CHECK(base.slices[i].equal(part_of(whole, layout::slice_of(all[i], grid.context.grid)).to(compute)));
    check_reads(world, source, all[i].name);
    longest = std::max(longest, whole.numel() / whole.size(0));
  }
  CHECK(source.read_elements <= elements_of(all) / world.size() + longest);
}

std::int64_t bytes_read_by_process() {
  std::ifstream counters("/proc/self/io");
  std::string key;
  std::int64_t value = 0;
  REQUIRE(counters >> key >> value);
  REQUIRE(key == "rchar:");
  return value;
}

/// Rows of 2 MiB, 8 to a block of a checkpoint: blocks of 8, 8 and 4 rows. Finite numbers without a pattern.
struct Wide {
  layout::ParameterSpec spec{"wide", {20, 1 << 20}, DType::bf16, Split{1, Axis::tp}};
  std::int64_t bytes = 2 * layout::element_count(spec.shape);
  std::vector<std::uint16_t> values;

  Wide() {
    for (std::int64_t i = 0; i < bytes / 2; ++i) {
      values.push_back(static_cast<std::uint16_t>(core::mix64(static_cast<std::uint64_t>(i)) & 0x3FFFU));
    }
  }
  checkpoint::Piece piece() const {
    return checkpoint::make_piece(spec.name, spec.shape, spec.storage, layout::whole(spec.shape), values.data());
  }
};

}  // namespace

TEST_CASE("every row of the base is read once and reaches its ranks, at every layout") {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
      // One byte: every row is longer than a block. 100: some are, and blocks end inside tensors.
      for (const std::int64_t buffer : {std::int64_t{1}, std::int64_t{100}, parallel::base_buffer_bytes}) {
        check_loading(specs, tp, ep, compute, buffer);
      }
    }
  }
}

TEST_CASE("a model reads its frozen tensors so, each row once in the job") {
  Specs frozen;  // of models: matrices and vectors
  std::copy_if(specs.begin(), specs.end(), std::back_inserter(frozen),
               [](const layout::ParameterSpec& spec) { return spec.shape.size() <= 2; });
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    const CountingSource source(frozen);
    parallel::Parameters parameters(frozen, grid.context);
    parameters.load_frozen(source);
    for (const layout::ParameterSpec& spec : frozen) {
      CAPTURE(spec.name);
      const at::Tensor wanted = part_of(source.values.at(spec.name), layout::slice_of(spec, grid.context.grid));
      CHECK(value_of(parameters, spec).equal(wanted.to(at::kFloat)));
      check_reads(*grid.groups.world, source, spec.name);
    }
  }
}

TEST_CASE("a base of fewer rows than ranks, and none at all, can be loaded") {
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    check_loading({{"one row", {1, 8}, DType::f32, Split{1, Axis::tp}}}, tp, ep, at::kFloat, 64);
    check_loading({}, tp, ep, at::kFloat, 64);
  }
}

TEST_CASE("buffers stay within their bound, and rounds are filled across tensors") {
  // Rows of the specs are 32 bytes at most; at four ranks a block is 64.
  constexpr std::int64_t buffer = 256;
  for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 4)) {
    CAPTURE(tp, ep);
    const OnGrid grid(tp, ep);
    WatchedWorld world(*grid.groups.world);
    const CountingSource source(specs);
    const Base base(world, grid, source, specs, buffer);
    const std::int64_t block = buffer / world.size() / 4;
    CHECK(world.most_sent <= buffer / 4);
    CHECK(world.most_received <= buffer / 4);
    for (const auto& [target, elements] : source.targets) CHECK(elements <= block);
    // Half of every block is filled at least, since a row is no longer than that.
    const std::int64_t longest_run = elements_of(specs) / world.size() + 8;
    WatchedWorld at_once(*grid.groups.world);
    const CountingSource again(specs);
    const Base in_one_round(at_once, grid, again, specs, parallel::base_buffer_bytes);
    CHECK(at_once.exchanges == (world.size() > 1 ? 1 : 0));
    if (world.size() > 1) {
      CHECK(world.exchanges >= elements_of(specs) / (world.size() * block));
      CHECK(world.exchanges <= longest_run / (block / 2) + 1);
    } else {
      CHECK(world.exchanges == 0);
      for (const auto& [target, elements] : source.targets) {
        const bool in_place =
            std::any_of(base.slices.begin(), base.slices.end(), [&, at = target](const at::Tensor& s) {
              const auto* begin = static_cast<const char*>(s.data_ptr());
              return at >= begin && at < begin + s.nbytes();
            });
        CHECK(in_place);
      }
    }
  }
}

TEST_CASE("when one rank cannot read, all end together with its message") {
  const OnGrid grid(1, 1);
  comm::Communicator& world = *grid.groups.world;
  for (int culprit = 0; culprit < world.size(); ++culprit) {
    CAPTURE(culprit);
    CountingSource source(specs);
    if (world.rank() == culprit) source.failing_read = 2;  // others have carried rows before, and have more
    std::optional<comm::AgreedError> error;
    try {
      const Base base(world, grid, source, specs, 1);
    } catch (const comm::AgreedError& agreed) {
      error = agreed;
    }
    REQUIRE(error);
    CHECK(error->code() == core::ExitCode::bad_input);
    CHECK(std::string(error->what()).find("the file: tensor ") != std::string::npos);
    const std::vector<std::string> messages = world.all_gather_text("compare messages", error->what());
    CHECK(messages == std::vector<std::string>(messages.size(), messages[0]));
    CHECK(source.number_of_reads == 3);
  }
}

TEST_CASE("a checkpoint's blocks are read from its file once, save those two ranks share") {
  const Wide wide;
  const auto whole_world = comm::make_world(60);
  std::optional<test::ScratchFolder> scratch;
  if (whole_world->rank() == 0) scratch.emplace();
  const std::filesystem::path folder =
      whole_world->broadcast_text("share the folder", scratch ? (*scratch / "c").string() : "", 0);
  checkpoint::save(*whole_world, {.folder = folder},
                   scratch ? std::vector<checkpoint::Piece>{wide.piece()} : std::vector<checkpoint::Piece>{});
  for (const auto& [tp, ep] : layouts(whole_world->size(), 4)) {
    if (ep > 1) continue;
    CAPTURE(tp);
    const OnGrid grid(tp, ep, at::kBFloat16);
    comm::Communicator& world = *grid.groups.world;
    const checkpoint::CheckpointReader reader(folder);
    const std::int64_t before = bytes_read_by_process();
    // A row a round: eight of them from every block.
    const Base base(world, grid, reader, {wide.spec}, world.size() * std::int64_t{2} << 20);
    const std::int64_t read = world.all_reduce("add bytes", bytes_read_by_process() - before, comm::Reduce::sum);
    constexpr std::int64_t block = std::int64_t{16} << 20, headers = std::int64_t{1} << 20;
    CHECK(read >= wide.bytes);
    CHECK(read <= wide.bytes + (world.size() - 1) * block + world.size() * headers);
    const at::Tensor all =
        at::from_blob(const_cast<std::uint16_t*>(wide.values.data()), wide.spec.shape, at::kBFloat16);
    CHECK(base.slices[0].equal(part_of(all, layout::slice_of(wide.spec, grid.context.grid))));
  }
  whole_world->barrier("end with the folder");
}

TEST_CASE("rows of the block read last come from memory, and no damaged block stays there") {
  const test::ScratchFolder scratch;
  const Wide wide;
  const auto alone = comm::make_serial_communicator("world");
  checkpoint::save(*alone, {.folder = scratch / "c"}, {wide.piece()});
  const std::filesystem::path shard = scratch / "c/shard-00000.h5";
  const std::int64_t row_5 = test::find_bytes(shard, &wide.values[5 << 20], 64);
  REQUIRE(row_5 > 0);

  const checkpoint::CheckpointReader reader(scratch / "c");
  const auto row_is_right = [&](std::int64_t row) {
    std::vector<std::uint16_t> read(std::size_t{1} << 20);
    reader.read("wide", {{row, 0}, {1, 1 << 20}}, DType::bf16, read.data());
    return std::equal(read.begin(), read.end(), wide.values.begin() + (row << 20));
  };
  CHECK(row_is_right(3));
  test::flip_bit(shard, row_5);
  CHECK(row_is_right(4));   // of the block in memory
  CHECK(row_is_right(10));  // of the next, which takes its place
  for (int attempt = 0; attempt < 2; ++attempt) {
    test::expect_error(core::ExitCode::bad_input, {shard.string(), "tensor wide", "rows 0 to 7", "checksum"},
                       [&] { row_is_right(3); });
  }
  CHECK(row_is_right(10));
}

}  // namespace caravan::tests
