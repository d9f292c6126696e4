// SPDX-License-Identifier: Apache-2.0
#include "commands/start.hpp"

#include "core/checksum.hpp"
#include "core/stop_request.hpp"
#include "family/parameters.hpp"
#include "io/atomic_file.hpp"
#include "run/checkpoint_choice.hpp"
#include "train/context.hpp"

namespace caravan::commands {

std::filesystem::path step_0_folder(const Session& session) {
  return run::step_0_folder(session.run(), session.config.model.store);
}

Start open_chosen(const Session& session) {
  const auto choose = [&] {
    const auto chosen =
        run::chosen_checkpoint(session.run(), session.config.checkpoint.chosen_step(), step_0_folder(session));
    if (chosen) return *chosen;
    core::bad_input("no checkpoint in ", session.checkpoints().string(),
                    "; run caravan upcycle and caravan train first");
  };
  return open_start(session, run::choose_together(session.world, choose));
}

Start open_start(const Session& session, const std::filesystem::path& folder) {
  Start start{folder, folder, {}, nullptr, {}};
  std::vector<comm::Fact> files;
  comm::on_all_ranks(session.world, [&] {
    start.reader = std::make_unique<checkpoint::CheckpointReader>(folder);
    if (start.reader->store()) {
      start.store = (folder / start.reader->store()->folder).lexically_normal();
      if (!session.config.model.store.empty()) {
        start.store = session.config.model.store;
        start.reader->attach_store(start.store);
      }
    }
    start.spec = family::read_model_spec(start.store.string(), session.config.model.rope_theta);
    start.identity = checkpoint::identify_store(start.store);
    files = {checksum_of(start.store / "manifest.json"), checksum_of(start.store / "config.json")};
    if (start.store != start.folder) files.push_back(checksum_of(start.folder / "manifest.json"));
  });
  require_same_files(session, files);
  return start;
}

comm::Fact checksum_of(const std::filesystem::path& file) {
  const std::string bytes = io::read_file(file);
  return {"checksum of " + file.string(), core::checksum(bytes.data(), bytes.size())};
}

void require_same_files(const Session& session, const std::vector<comm::Fact>& files) {
  comm::require_same(session.world, files, "the ranks do not read the same files: make their copies the same");
}

layout::Grid checked_grid(const Session& session, const family::ModelSpec& spec,
                          const std::optional<family::BatchSplit>& batch) {
  const layout::Options& layout = session.config.layout;
  comm::on_all_ranks(session.world, [&] { family::require_layout(spec, session.world.size(), layout, batch); });
  return {session.world.size(), session.world.rank(), layout};
}

void end_if_asked(const Session& session) {
  comm::on_all_ranks(session.world, [] { core::StopRequest::check(); });
}

void StoppableSource::read(const std::string& name, const layout::Rectangle& part, core::DType dtype,
                           void* target) const {
  core::StopRequest::check();
  source_.read(name, part, dtype, target);
}

void load_trainable(const Session& session, Model& model, const layout::TensorSource& source) {
  comm::on_all_ranks(session.world, [&] { model.parameters.load_trainable(StoppableSource(source)); });
}

Model::Model(const Session& session, const Start& start) : Model(session, start.spec, *start.reader) {}

Model::Model(const Session& session, const family::ModelSpec& spec, const layout::TensorSource& source)
    : grid(checked_grid(session, spec)),
      groups(comm::make_groups(grid, session.config.watchdog.seconds)),
      context(train::make_context(grid, groups, session.config.train)),
      parameters(family::parameter_specs(spec), context, session.config.train.bucket_mib.bytes() / 4) {
  parameters.load_frozen(StoppableSource(source));
  decoder = std::make_unique<model::Decoder>(context, spec, parameters);
}

}  // namespace caravan::commands
