// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "data/packed_file.hpp"
#include "io/atomic_file.hpp"
#include "run/status.hpp"
#include "tests/io/scratch_folder.hpp"

namespace caravan::test {

/// A run folder and settings, of which status is asked.
struct Run {
  ScratchFolder scratch;
  run::RunFolder folder{scratch.path()};
  run::StageSettings settings{
      .data = options(), .sequence = 8, .epochs = 2, .batch = 4, .samples = 4, .precision = "bf16"};

  data::Options options() const {
    data::Options data;
    data.packed = scratch / "data.packed";
    return data;
  }
  /// As prepare would with these settings.
  void write_packed(int sequences) const { write_part("train", settings.data.packed, sequences); }
  void write_held_out() const { write_part("held_out", data::held_out_path(settings.data), 1); }
  void write_part(const std::string& part, const std::string& path, int sequences) const {
    data::PackedWriter writer({.template_name = "idae",
                               .packing = "none",
                               .sequence = 8,
                               .tokenizer = "0123456789abcdef",
                               .vocabulary = 100,
                               .source = "talks.json",
                               .source_fingerprint = "fedcba9876543210",
                               .part = part,
                               .held_out_every = settings.data.held_out_every,
                               .program = "caravan 0.old"});
    for (int s = 0; s < sequences; ++s) writer.add({.tokens = {1, 2, 3}, .labelled = {0, 1, 1}});
    io::AtomicFile file(path);
    writer.write(file);
    file.commit();
  }
  nlohmann::json json() const { return run::to_json(run::read_status(folder, settings)); }
  std::string shell() const {
    const run::Checkpoints checkpoints = run::read_checkpoints(folder, settings);
    return run::to_shell(run::read_stages(folder, settings, checkpoints), checkpoints);
  }
  bool done(const char* stage) const { return json()["stages"][stage]["done"]; }
  std::string problem_of(const char* stage) const {
    const nlohmann::json problem = json()["stages"][stage]["problem"];
    return problem.is_null() ? "" : problem.get<std::string>();
  }
};

}  // namespace caravan::test
