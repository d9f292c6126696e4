// SPDX-License-Identifier: Apache-2.0
// Frozen tensors stay in the step-0 checkpoint; later ones refer to it.
#include "comm/communicator.hpp"
#include "tests/checkpoint/saved.hpp"
#include "tests/io/expect_error.hpp"
#include "tests/io/scratch_folder.hpp"

using namespace caravan;
using core::DType;

namespace {

const layout::Shape shape{2, 3};

void save_one(const std::filesystem::path& folder, std::int64_t step, const std::vector<std::string>& names,
              std::optional<checkpoint::StoreReference> store = {}) {
  const auto world = comm::make_serial_communicator("world");
  std::vector<checkpoint::Piece> pieces;
  for (const auto& name : names) pieces.push_back(test::piece_of(name, shape, DType::f32, layout::whole(shape)));
  checkpoint::save(*world, {.folder = folder, .step = step, .store = std::move(store)}, pieces);
}

std::vector<float> read_whole(const checkpoint::CheckpointReader& reader, const std::string& name) {
  std::vector<float> values(6);
  reader.read(name, layout::whole(shape), DType::f32, values.data());
  return values;
}

// RUN/step-00000000 with a frozen and a trained tensor, RUN/step-00000005 with the trained one only.
void save_run(const std::filesystem::path& run) {
  save_one(run / "step-00000000", 0, {"frozen", "trained"});
  save_one(run / "step-00000005", 5, {"trained"},
           checkpoint::store_reference(run / "step-00000000", run / "step-00000005"));
}

}  // namespace

TEST_CASE("frozen tensors are read through the reference, also in a run folder that moved") {
  const test::ScratchFolder scratch;
  save_run(scratch / "run");
  std::filesystem::rename(scratch / "run", scratch / "moved");
  const checkpoint::CheckpointReader reader(scratch / "moved" / "step-00000005");
  CHECK(reader.holds("trained"));
  CHECK_FALSE(reader.holds("frozen"));
  CHECK(reader.contains("frozen"));
  CHECK(reader.tensor_names() == std::vector<std::string>{"frozen", "trained"});
  CHECK(reader.own_tensor_names() == std::vector<std::string>{"trained"});
  CHECK(reader.info("frozen").shape == shape);
  CHECK(read_whole(reader, "frozen") == test::elements("frozen", shape, layout::whole(shape)));
  CHECK(reader.verify().empty());
}

TEST_CASE("a store elsewhere is recorded by its absolute path") {
  const test::ScratchFolder scratch;
  save_one(scratch / "base" / "step-00000000", 0, {"frozen"});
  const auto reference = checkpoint::store_reference(scratch / "base/step-00000000", scratch / "run/step-00000005");
  CHECK(reference.folder.is_absolute());
  save_one(scratch / "run" / "step-00000005", 5, {"trained"}, reference);
  CHECK(checkpoint::CheckpointReader(scratch / "run/step-00000005").contains("frozen"));
}

TEST_CASE("a moved store is attached, another one is refused") {
  const test::ScratchFolder scratch;
  save_run(scratch / "run");
  std::filesystem::rename(scratch / "run/step-00000000", scratch / "kept");
  save_one(scratch / "other", 0, {"frozen", "trained", "more"});

  checkpoint::CheckpointReader reader(scratch / "run/step-00000005");
  CHECK(read_whole(reader, "trained") == test::elements("trained", shape, layout::whole(shape)));
  test::expect_error(core::ExitCode::bad_input, {"step-00000005", "step-00000000", "model.store"},
                     [&] { reader.contains("frozen"); });
  CHECK(reader.verify().size() == 1);
  test::expect_error(core::ExitCode::bad_input, {(scratch / "other").string(), "model.store"},
                     [&] { reader.attach_store(scratch / "other"); });
  reader.attach_store(scratch / "kept");
  CHECK(read_whole(reader, "frozen") == test::elements("frozen", shape, layout::whole(shape)));

  checkpoint::CheckpointReader store(scratch / "kept");
  test::expect_error(core::ExitCode::bad_input, {(scratch / "kept").string(), "takes no store"},
                     [&] { store.attach_store(scratch / "other"); });
}

TEST_CASE("a store that was made again from the same is the same store") {
  const test::ScratchFolder scratch;
  const auto world = comm::make_serial_communicator("world");
  // What another version writes on other ranks: other shards, another program, another text.
  const auto save_store = [&](const std::filesystem::path& folder, const std::string& program,
                              const nlohmann::json& facts, const std::vector<std::string>& names) {
    std::vector<std::string> reports;
    const checkpoint::SaveRequest request{.folder = folder, .state = {{"upcycle", facts}}, .program = program};
    checkpoint::prepare(*world, request);
    for (int rank = 0; rank < static_cast<int>(names.size()); ++rank) {
      const std::string& name = names[static_cast<std::size_t>(rank)];
      reports.push_back(
          checkpoint::write_shard(folder, rank, {test::piece_of(name, shape, DType::f32, layout::whole(shape))}).shard);
    }
    CHECK(checkpoint::commit_shards(request, static_cast<int>(names.size()), reports).code == core::ExitCode::done);
  };
  const std::filesystem::path store = scratch / "step-00000000", trained = scratch / "step-00000005";
  const nlohmann::json facts{{"seed", 1}, {"base", "0123"}};
  save_store(store, "caravan 1", facts, {"frozen", "more", "trained"});
  const auto reference = checkpoint::store_reference(store, trained);
  save_one(trained, 5, {"trained"}, reference);
  const auto opens = [&](const checkpoint::StoreReference& recorded) {
    CHECK(checkpoint::is_same_store(recorded, checkpoint::identify_store(store)) ==
          (checkpoint::CheckpointReader(trained).verify().empty()));
    return checkpoint::is_same_store(recorded, checkpoint::identify_store(store));
  };
  CHECK(opens(reference));
  const auto make_again = [&](const std::string& program, const nlohmann::json& of,
                              const std::vector<std::string>& names) {
    std::filesystem::remove_all(store);
    save_store(store, program, of, names);
  };
  make_again("caravan 2", facts, {"trained", "frozen", "more"});
  CHECK(checkpoint::identify_store(store).manifest_hash != reference.manifest_hash);
  CHECK(opens(reference));
  CHECK(read_whole(checkpoint::CheckpointReader(trained), "more") ==
        test::elements("more", shape, layout::whole(shape)));
  make_again("caravan 1", {{"seed", 2}, {"base", "0123"}}, {"frozen", "more", "trained"});
  CHECK_FALSE(opens(reference));
  make_again("caravan 1", facts, {"frozen", "less", "trained"});
  CHECK_FALSE(opens(reference));
}

TEST_CASE("a reference of an older version knows its store by the manifest") {
  const test::ScratchFolder scratch;
  save_one(scratch / "step-00000000", 0, {"frozen"});
  auto reference = checkpoint::store_reference(scratch / "step-00000000", scratch / "step-00000005");
  reference.content.clear();
  save_one(scratch / "step-00000005", 5, {"trained"}, reference);
  const checkpoint::CheckpointReader reader(scratch / "step-00000005");
  CHECK(reader.store()->content.empty());
  CHECK(read_whole(reader, "frozen") == test::elements("frozen", shape, layout::whole(shape)));
  reference.manifest_hash = "0000000000000000";
  CHECK_FALSE(checkpoint::is_same_store(reference, checkpoint::identify_store(scratch / "step-00000000")));
}
