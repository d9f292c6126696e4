// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "checkpoint/reader.hpp"
#include "comm/agreement.hpp"
#include "commands/session.hpp"
#include "family/layout_check.hpp"
#include "model/decoder.hpp"

namespace caravan::commands {

/// Where upcycle writes and train begins: model.store, or the run's own step 0.
std::filesystem::path step_0_folder(const Session& session);

/// A checkpoint that every rank has opened, with the model that it holds.
struct Start {
  std::filesystem::path folder;
  std::filesystem::path store;  // of the frozen tensors, config.json and the tokenizer; `folder` itself at step 0
  checkpoint::StoreReference identity{};  // of the store
  std::unique_ptr<checkpoint::CheckpointReader> reader;
  family::ModelSpec spec;
};

/// Opens a checkpoint on all ranks, which must find the same one; its configuration is the one that upcycle left beside
/// the frozen tensors. Collective.
Start open_start(const Session& session, const std::filesystem::path& folder);

/// Opens the checkpoint that checkpoint.step names. Collective. Throws AgreedError (exit 2) when the run has none.
Start open_chosen(const Session& session);

/// A file, by its name and the checksum of its bytes.
comm::Fact checksum_of(const std::filesystem::path& file);

/// Throws AgreedError (exit 2) when files, by name and checksum, are not the same on all ranks: nodes may have copies
/// of their own. Collective.
void require_same_files(const Session& session, const std::vector<comm::Fact>& files);

/// This rank's grid. Collective. Throws (exit 2) when the layout does not divide the ranks, the model or, where there
/// is one, the batch.
layout::Grid checked_grid(const Session& session, const family::ModelSpec& spec,
                          const std::optional<family::BatchSplit>& batch = {});

/// Throws AgreedError (exit 70) on all ranks when one was asked to stop. Collective.
void end_if_asked(const Session& session);

/// Another source, until this process is asked to stop: then reading throws (exit 70). Who reads tells the others.
class StoppableSource : public layout::TensorSource {
 public:
  explicit StoppableSource(const layout::TensorSource& source) : source_(source) {}
  bool contains(const std::string& name) const override { return source_.contains(name); }
  Info info(const std::string& name) const override { return source_.info(name); }
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override;
  std::string where() const override { return source_.where(); }

 private:
  const layout::TensorSource& source_;
};

/// A model on this rank's grid with its frozen tensors, computing in train.precision.
struct Model {
  /// Collective. Refuses layouts as checked_grid does, before anything is allocated. When asked to stop meanwhile, all
  /// ranks throw AgreedError (exit 70).
  Model(const Session& session, const Start& start);
  Model(const Session& session, const family::ModelSpec& spec, const layout::TensorSource& source);

  layout::Grid grid;
  comm::Groups groups;
  parallel::Context context;
  parallel::Parameters parameters;
  std::unique_ptr<model::Decoder> decoder;
};

/// Reads what is trained. Collective. When asked to stop meanwhile, all ranks throw AgreedError (exit 70).
void load_trainable(const Session& session, Model& model, const layout::TensorSource& source);

}  // namespace caravan::commands
