// SPDX-License-Identifier: Apache-2.0
#include "commands/run_saver.hpp"

#include "comm/agreement.hpp"
#include "commands/resume.hpp"
#include "core/build_facts.hpp"

namespace caravan::commands {

RunSaver::RunSaver(const Session& session, const layout::Grid& grid, train::ShardedAdamW& optimizer,
                   checkpoint::StoreReference store, RunFiles files, run::RunLock* lock)
    : session_(session),
      grid_(grid),
      optimizer_(optimizer),
      store_(std::move(store)),
      files_(std::move(files)),
      retention_(session.checkpoints(), {session.config.checkpoint.keep, session.config.checkpoint.keep_every,
                                         session.config.checkpoint.keep_best}),
      save_(session.world, session.config.checkpoint.asynchronous,
            {.before = [lock] { lock->require_ours(); },
             .after =
                 [this, lock](const std::function<void()>& moved) {
                   const comm::Failure lost = comm::attempt([lock] { lock->require_ours(); });
                   if (!doubtful_ && lost.code == core::ExitCode::done) retention_.apply(moved);
                 }}) {
  constexpr double slow_storage = 100e6;  // bytes a second
  const std::vector<checkpoint::Piece> own = pieces();
  comm::on_all_ranks(session.world, [&] { save_.reserve(own); });
  double bytes = 0;
  for (const checkpoint::Piece& piece : own) {
    bytes += static_cast<double>(piece.part.count()) * static_cast<double>(core::size_of(piece.dtype));
  }
  expected_seconds_ = session.world.all_reduce("most bytes to save", bytes, comm::Reduce::max) / slow_storage;
}

std::vector<checkpoint::Piece> RunSaver::pieces() {
  std::vector<checkpoint::Piece> pieces;
  for (const train::ShardedAdamW::Piece& piece : optimizer_.owned_pieces()) {
    pieces.push_back(checkpoint::make_piece(piece.name, piece.shape, core::DType::f32, piece.part, piece.data));
  }
  return pieces;
}

void RunSaver::begin(const train::Progress& progress, std::optional<double> held_out_loss, bool doubtful) {
  checkpoint::SaveRequest request;
  request.folder = checkpoint::step_folder(session_.checkpoints(), progress.step);
  request.step = progress.step;
  request.state = resume_state(session_, progress, files_.data);
  if (held_out_loss) {
    request.state[checkpoint::held_out_loss_field] = *held_out_loss;
    request.state[checkpoint::held_out_set_field] = files_.held_out;
  }
  request.tp = grid_.tp();
  request.ep = grid_.ep();
  request.store = store_;
  request.program = core::build_facts_text();
  request.tensors = optimizer_.tensor_names();
  folder_ = request.folder;
  doubtful_ = doubtful;
  save_.begin(std::move(request), pieces());
}

train::Writing RunSaver::look(std::chrono::milliseconds most) {
  if (save_.written(most)) return {.done = true, .seconds = save_.seconds()};
  return {.silent = save_.silent()};
}

std::optional<std::string> RunSaver::advance() {
  if (!save_.advance()) return std::nullopt;
  return folder_.string();
}

}  // namespace caravan::commands
