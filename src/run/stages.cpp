// SPDX-License-Identifier: Apache-2.0
#include "run/stages.hpp"

#include <algorithm>
#include <regex>

#include "checkpoint/manifest.hpp"
#include "checkpoint/retention.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/system_error.hpp"
#include "core/text.hpp"
#include "data/packed_file.hpp"
#include "data/prepared.hpp"
#include "io/atomic_file.hpp"
#include "run/checkpoint_choice.hpp"
#include "run/export_record.hpp"
#include "run/resume_point.hpp"
#include "run/step_0_origin.hpp"

namespace caravan::run {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// What reads a result. What is wrong with the result is said of the stage; what the system refuses is thrown.
template <typename Read>
void look_into(Stage& stage, Read read) {
  try {
    read();
  } catch (const core::SystemError&) {
    throw;
  } catch (const core::Error& error) {
    stage.done = false;
    stage.problem = error.what();
  } catch (const json::exception& error) {
    stage.done = false;
    stage.problem = core::concat(stage.result.string(), ": ", error.what());
  }
}

// "this; that"
std::string in_one_line(const std::vector<std::string>& parts) {
  std::string line;
  for (const std::string& part : parts) {
    if (!line.empty()) line += "; ";
    line += part;
  }
  return line;
}

// What the settings say of the model otherwise than the step 0 that is there, as far as that can be told without
// reading a base. The same base may have come to another place: upcycle, which reads it, then finds that nothing is to
// be done.
std::vector<std::string> other_origin(const checkpoint::Manifest& manifest, const StageSettings& settings) {
  std::vector<std::string> others;
  const Step0Origin made = Step0Origin::of(manifest);
  const auto compare_folder = [&](const char* key, const std::string& now, const std::string& then) {
    if (!now.empty() && !made.base.empty() && !is_same_folder(now, then)) {
      others.push_back(core::concat(key, " = ", now, ", but it was ", then.empty() ? "not set" : then));
    }
  };
  compare_folder("model.base", settings.base, made.base);
  compare_folder("model.adapter", settings.adapter, made.adapter);
  const json facts = manifest.state.value("upcycle", json::object());
  const json config = facts.value("config", json::object());
  const auto compare = [&](const char* key, const json& then) {
    const json now = settings.upcycle.is_object() ? settings.upcycle.value(key, json()) : json();
    if (now.is_null() || then.is_null() || now == then) return;
    others.push_back(core::concat("upcycle.", key, " = ", now, ", but it was ", then));
  };
  compare("seed", facts.value("seed", json()));
  const json kept = facts.value("kept", json::array());
  if (std::find(kept.begin(), kept.end(), "upcycle") != kept.end()) return others;  // the base had its own
  compare("experts", config.value("num_experts", json()));
  compare("topk", config.value("topk", json()));
  compare("adapter_dim", config.value("adapter_dim", json()));
  compare("scaling", config.value("moe_scaling", json()));
  return others;
}

Stage upcycle_stage(const RunFolder& run, const StageSettings& settings) {
  Stage stage{.name = "upcycle", .result = step_0_folder(run, settings.store)};
  if (!fs::exists(stage.result / "manifest.json")) return stage;
  stage.done = true;
  look_into(stage, [&] {
    const checkpoint::Manifest manifest = checkpoint::Manifest::read(stage.result);
    stage.made_by = manifest.program;
    stage.settings = manifest.state.value("upcycle", json());
    const std::vector<std::string> others = other_origin(manifest, settings);
    if (others.empty()) return;
    stage.done = false;
    stage.problem = core::concat(stage.result.string(), " was made with other settings: ", in_one_line(others),
                                 "; upcycle would refuse another model");
  });
  return stage;
}

// Why the packed file must stay whatever the settings say: the next start goes on from trained steps, which it does
// only with the data that they saw. Empty: it may be replaced.
std::string reason_to_keep(const Checkpoints& checkpoints, const std::string& resume) {
  constexpr const char* trained = "this run has trained already";
  if (!checkpoints.committed.empty() && checkpoints.committed.back() > 0) return trained;
  if (!names_a_folder(resume)) return "";
  try {
    return checkpoint::Manifest::read(resume).step > 0 ? trained : "";
  } catch (const core::Error& error) {
    if (!checkpoint::is_damage(error) && dynamic_cast<const checkpoint::NewerVersion*>(&error) == nullptr) throw;
    return core::concat("checkpoint.resume may name a trained checkpoint (", error.what(), ")");
  }
}

// What a packed file that can be read is to the settings of the moment. `kept`: see reason_to_keep.
void compare_with_settings(Stage& stage, const StageSettings& settings, const std::string& kept) {
  // The source of a run that has trained is not read: whatever it has become, the packed file stays.
  const auto check = kept.empty() ? data::SourceCheck::quick : data::SourceCheck::name;
  const std::string& packed = settings.data.packed;
  std::vector<std::string> problems;
  bool same = true;
  look_into(stage, [&] {
    const data::Prepared found = data::prepared(settings.data, settings.sequence, settings.base, check);
    if (!found.there) problems.push_back(data::held_out_path(settings.data) + " is missing");
    same = found.differences.empty();
    if (!same) problems.push_back(packed + " was prepared with other settings: " + in_one_line(found.differences));
  });
  if (!stage.problem.empty()) problems.push_back(stage.problem);  // of the held-out file
  stage.done = problems.empty() || !kept.empty();
  if (!problems.empty() && !kept.empty()) {
    problems.push_back(core::concat(same ? packed : "it", " is kept, because ", kept));
  } else if (!same) {
    problems.emplace_back("prepare would replace it");
  }
  stage.problem = in_one_line(problems);
}

Stage prepare_stage(const StageSettings& settings, const Checkpoints& checkpoints) {
  const std::string& packed = settings.data.packed;
  Stage stage{.name = "prepare", .result = packed};
  if (packed.empty() || !fs::exists(packed)) return stage;
  const std::string kept = reason_to_keep(checkpoints, settings.resume);
  look_into(stage, [&] {
    const data::PackedFile file(packed, data::PackedFile::Check::header);
    const data::PackedMetadata& metadata = file.metadata();
    stage.made_by = metadata.program;
    stage.settings = {{"template", metadata.template_name},
                      {"packing", metadata.packing},
                      {"sequence", metadata.sequence},
                      {"source", metadata.source},
                      {"held_out_every", metadata.held_out_every},
                      {"tokenizer", metadata.tokenizer}};
    compare_with_settings(stage, settings, kept);
  });
  return stage;
}

Stage train_stage(const RunFolder& run, const Checkpoints& checkpoints) {
  Stage stage{.name = "train"};
  if (!checkpoints.newest_good) return stage;
  stage.result = checkpoint::step_folder(run.checkpoints(), *checkpoints.newest_good);
  stage.done = checkpoints.planned && *checkpoints.newest_good >= *checkpoints.planned;
  look_into(stage, [&] {
    const checkpoint::Manifest manifest = checkpoint::Manifest::read(stage.result);
    stage.made_by = manifest.program;
    stage.settings = manifest.state.value("config", json());
  });
  return stage;
}

// The step that evaluate and export take, if there is such a checkpoint.
std::optional<std::int64_t> chosen_step(const StageSettings& settings, const std::vector<Stage>& before,
                                        const Checkpoints& checkpoints) {
  if (settings.step) return settings.step;
  if (checkpoints.newest_good) return checkpoints.newest_good;
  return before.front().done ? std::optional<std::int64_t>(0) : std::nullopt;
}

// What evaluate would do otherwise today, as far as the report says what it did and the records are there.
std::vector<std::string> other_evaluation(const json& report, const StageSettings& settings) {
  std::vector<std::string> others;
  const std::string precision = report.value("precision", settings.precision);
  if (precision != settings.precision) {
    others.push_back(core::concat("train.precision = ", settings.precision, ", but it was ", precision));
  }
  const std::string records = data::held_out_path(settings.data);
  if (!report.contains("held_out") || !fs::exists(records)) return others;
  const data::PackedFile held_out(records, data::PackedFile::Check::header);
  if (report["held_out"] != held_out.content()) return {records + " has changed since"};
  const std::int64_t samples = std::min(settings.samples, held_out.sequences());
  if (report.value("samples", samples) != samples) {
    others.push_back(core::concat("evaluate.samples = ", settings.samples, ", but it was ", report["samples"]));
  }
  return others;
}

Stage evaluate_stage(const RunFolder& run, const StageSettings& settings, std::optional<std::int64_t> step) {
  Stage stage{.name = "evaluate"};
  if (!step) return stage;
  stage.result = run.evaluation(*step);
  if (!fs::exists(stage.result)) return stage;
  stage.done = true;
  look_into(stage, [&] {
    const json report = core::parse_json(io::read_file(stage.result));
    stage.made_by = report.value("program", "");
    for (const char* key : {"precision", "samples"}) {
      if (report.contains(key)) stage.settings[key] = report[key];
    }
    const std::vector<std::string> others = other_evaluation(report, settings);
    if (others.empty()) return;
    stage.done = false;
    stage.problem = stage.result.string() + " is of other settings: " + in_one_line(others);
  });
  return stage;
}

// What a checkpoint is; nothing where it is gone or damaged, so that nothing can be compared with it.
std::optional<std::string> identity_of(const fs::path& checkpoint) {
  try {
    return checkpoint_identity(checkpoint::Manifest::read(checkpoint));
  } catch (const core::Error& error) {
    if (!checkpoint::is_damage(error)) throw;
    return std::nullopt;
  }
}

// What export would do otherwise today.
std::vector<std::string> other_export(const ExportRecord& made, const fs::path& checkpoint, std::int64_t step,
                                      const StageSettings& settings) {
  std::vector<std::string> others;
  const auto compare = [&](const char* key, const auto& now, const auto& then) {
    if (now != then) others.push_back(core::concat(key, now, ", but it was ", then));
  };
  compare("the checkpoint is of step ", step, made.step);
  if (step == made.step && identity_of(checkpoint).value_or(made.checkpoint) != made.checkpoint) {
    others.push_back(core::concat("the checkpoint is ", checkpoint.string(), ", but it was another one of this step"));
  }
  const auto name = [](bool on) { return std::string(on ? "true" : "false"); };
  compare("export.merge = ", name(settings.merge), name(made.merge));
  // What auto stands for is another type for a whole model than for an adapter.
  if (settings.dtype != "auto" || settings.merge == made.merge) {
    compare("export.dtype = ", settings.dtype == "auto" ? made.automatic_dtype : settings.dtype, made.dtype);
  }
  if (settings.merge) compare("export.format = ", settings.format, made.format);
  return others;
}

// README.md of an export says of what step it is, and what made it; those of earlier versions have nothing else.
void read_card(Stage& stage, const std::string& card, std::int64_t step) {
  if (!std::regex_search(card, std::regex("step-0*" + std::to_string(step) + "\\b"))) {
    stage.done = false;
    stage.problem = (stage.result / "README.md").string() + " is of another checkpoint";
    return;
  }
  constexpr std::string_view heading = "\n## Program\n";
  if (const std::size_t at = card.find(heading); at != std::string::npos) {
    stage.made_by = card.substr(at + heading.size(), card.find('\n', at + heading.size()) - at - heading.size());
  }
}

Stage export_stage(const RunFolder& run, const StageSettings& settings, std::optional<std::int64_t> step) {
  Stage stage{.name = "export"};
  stage.result = settings.export_folder;
  if (!step) return stage;
  if (settings.export_folder.empty()) stage.result = run.exported(*step, settings.merge);
  const fs::path card_file = stage.result / "README.md";
  if (!fs::exists(card_file)) return stage;
  stage.done = true;
  look_into(stage, [&] {
    const std::optional<ExportRecord> made = ExportRecord::read(stage.result);
    if (!made) return read_card(stage, io::read_file(card_file), *step);
    stage.made_by = made->program;
    stage.settings = {{"dtype", made->dtype}, {"merge", made->merge}, {"format", made->format}};
    const fs::path checkpoint =
        *step == 0 ? step_0_folder(run, settings.store) : checkpoint::step_folder(run.checkpoints(), *step);
    const std::vector<std::string> others = other_export(*made, checkpoint, *step, settings);
    if (others.empty()) return;
    stage.done = false;
    stage.problem = stage.result.string() + " holds another export: " + in_one_line(others);
  });
  if (!stage.done) return stage;
  if (fs::exists(stage.result / "UNVERIFIED")) {
    stage.problem = stage.result.string() + " is marked UNVERIFIED: it does not compute what the checkpoint does";
  }
  return stage;
}

std::optional<std::int64_t> planned_steps(const StageSettings& settings) {
  if (settings.steps > 0) return settings.steps;
  const std::string& packed = settings.data.packed;
  if (packed.empty() || !fs::exists(packed)) return std::nullopt;
  try {
    const std::int64_t sequences = data::PackedFile(packed, data::PackedFile::Check::header).sequences();
    return settings.epochs * ((sequences + settings.batch - 1) / settings.batch);
  } catch (const core::SystemError&) {
    throw;
  } catch (const core::Error&) {  // said of prepare
    return std::nullopt;
  }
}

}  // namespace

Checkpoints read_checkpoints(const RunFolder& run, const StageSettings& settings) {
  Checkpoints found;
  found.committed = checkpoint::committed_steps(run.checkpoints());
  std::vector<checkpoint::PassedOver> passed_over;
  if (const auto newest = checkpoint::newest_good(run.checkpoints(), &passed_over)) {
    for (const std::int64_t step : found.committed) {
      if (checkpoint::step_folder(run.checkpoints(), step) == *newest) found.newest_good = step;
    }
  }
  for (const checkpoint::PassedOver& damaged : passed_over) found.damaged.push_back(damaged.reason);
  found.planned = planned_steps(settings);
  return found;
}

std::vector<Stage> read_stages(const RunFolder& run, const StageSettings& settings, const Checkpoints& checkpoints) {
  std::vector<Stage> stages;
  stages.push_back(upcycle_stage(run, settings));
  stages.push_back(prepare_stage(settings, checkpoints));
  stages.push_back(train_stage(run, checkpoints));
  const std::optional<std::int64_t> step = chosen_step(settings, stages, checkpoints);
  stages.push_back(evaluate_stage(run, settings, step));
  stages.push_back(export_stage(run, settings, step));
  return stages;
}

std::int64_t progress_number(const std::vector<Stage>& stages, const Checkpoints& checkpoints) {
  constexpr std::int64_t more_than_all_steps = 1'000'000'000'000;
  const auto first = std::count_if(stages.begin(), stages.end(), [](const Stage& stage) {
    return stage.done && (stage.name == "upcycle" || stage.name == "prepare");
  });
  return first * more_than_all_steps + (checkpoints.committed.empty() ? 0 : checkpoints.committed.back() + 1);
}

}  // namespace caravan::run
