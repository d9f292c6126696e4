// SPDX-License-Identifier: Apache-2.0
#include "convert/export.hpp"

#include <algorithm>
#include <cstdio>

#include "comm/agreement.hpp"
#include "commands/start.hpp"
#include "convert/export_card.hpp"
#include "convert/export_folder.hpp"
#include "core/build_facts.hpp"
#include "core/log.hpp"
#include "core/random.hpp"
#include "core/text.hpp"
#include "evaluate/compare.hpp"
#include "family/hugging_face_source.hpp"
#include "io/atomic_file.hpp"

namespace caravan::commands {
namespace {

namespace fs = std::filesystem;
using evaluate::TokenTexts;

// What the check compares on: enough to meet every expert, little enough that its logits fit beside a model
// (512 tokens of a vocabulary of 152064 are 311 MB).
constexpr std::size_t texts_to_compare = 8;
constexpr std::size_t tokens_of_a_text = 64;

struct CheckTexts {
  std::string origin;
  TokenTexts texts;
};

CheckTexts held_out_texts(const data::PackedFile& file) {
  CheckTexts check{"of " + fs::path(file.path()).filename().string(), {}};
  for (std::size_t d = 0; d + 1 < file.document_starts().size() && d < texts_to_compare; ++d) {
    const std::size_t begin = file.document_starts()[d];
    const std::size_t end = std::min<std::size_t>(file.document_starts()[d + 1], begin + tokens_of_a_text);
    const auto tokens = file.tokens().subspan(begin, end - begin);
    check.texts.emplace_back(tokens.begin(), tokens.end());
  }
  return check;
}

CheckTexts drawn_texts(const family::ModelSpec& spec) {
  CheckTexts check{"drawn at random", TokenTexts(texts_to_compare)};
  const std::size_t length = std::min(tokens_of_a_text, static_cast<std::size_t>(spec.max_positions));
  std::uint64_t number = 0;
  for (std::vector<std::int32_t>& text : check.texts) {
    while (text.size() < length) {
      text.push_back(static_cast<std::int32_t>(core::mix64(number++) % static_cast<std::uint64_t>(spec.vocabulary)));
    }
  }
  return check;
}

// The first held-out documents, if the run has any that fit the model. The same on all ranks: rank 0 chooses.
CheckTexts choose_texts(const Session& session, const Start& start) {
  CheckTexts check;
  comm::on_all_ranks(session.world, [&] {
    if (!session.first()) return;
    check = drawn_texts(start.spec);
    const data::Options& data = session.config.data;
    const fs::path path = data::held_out_path(data);
    if ((data.packed.empty() && data.held_out.empty()) || !fs::exists(path)) return;
    try {
      const data::PackedFile file(path.string());
      require_same_tokens(file, start);
      check = held_out_texts(file);
    } catch (const core::Error& error) {
      core::log_warning(core::concat(error.what(), "; the export is checked on random tokens instead"));
    }
  });
  const nlohmann::json chosen{{"origin", check.origin}, {"texts", check.texts}};
  const auto shared =
      nlohmann::json::parse(session.world.broadcast_text("share the texts of the check", chosen.dump(), 0));
  return {shared.at("origin"), shared.at("texts")};
}

/// Logits of the texts that this rank computes: [text] → [tokens, V]; the others' stay undefined.
std::vector<at::Tensor> trained_logits(const Session& session, const Start& start, const TokenTexts& texts) {
  Model model(session, start);
  comm::on_all_ranks(session.world, [&] { model.parameters.load_trainable(*start.reader); });
  std::vector<std::vector<at::Tensor>> parts(texts.size());
  evaluate::run_texts(model.context, *model.decoder, texts,
                      [&](std::size_t text, std::int64_t, const at::Tensor& logits) { parts[text].push_back(logits); });
  std::vector<at::Tensor> logits(texts.size());
  for (std::size_t text = 0; text < texts.size(); ++text) {
    if (!parts[text].empty()) logits[text] = at::cat(parts[text]);
  }
  return logits;
}

/// Reads the folder back into a second model and compares.
evaluate::LogitDifference check_folder(const Session& session, const fs::path& folder, const TokenTexts& texts,
                                       const std::vector<at::Tensor>& trained) {
  family::ModelSpec spec;
  std::optional<family::HuggingFaceSource> files;
  comm::on_all_ranks(session.world, [&] {
    spec = family::read_model_spec(folder.string());
    files.emplace(folder.string(), spec);
  });
  Model model(session, spec, *files);
  comm::on_all_ranks(session.world, [&] { model.parameters.load_trainable(*files); });
  return evaluate::compare_logits(
      model.context, *model.decoder, texts,
      [&](std::size_t text, std::int64_t first, std::int64_t rows) { return trained[text].narrow(0, first, rows); });
}

fs::path folder_of(const Session& session, std::int64_t step) {
  if (!session.config.export_.folder.empty()) return session.config.export_.folder;
  char name[64];
  std::snprintf(name, sizeof name, "export-step-%08lld", static_cast<long long>(step));
  return session.run_folder() / name;
}

core::DType dtype_of(const Session& session, const Start& start) {
  const std::string& name = session.config.export_.dtype;
  return name == "auto" ? start.spec.dtype : core::dtype_from_name(name);
}

convert::ExportCard card_of(const Session& session, const Start& start) {
  convert::ExportCard card;
  card.spec = start.spec;
  card.dtype = dtype_of(session, start);
  card.checkpoint = start.folder.string();
  card.step = start.reader->step();
  card.settings = start.reader->state().value("config", nlohmann::json::object());
  card.base = card.settings.value("model", nlohmann::json::object()).value("base", session.config.model.base);
  if (card.base.empty()) card.base = "a dense model";
  card.program = core::build_facts_text();
  return card;
}

void write_verdict(const fs::path& folder, const convert::ExportCard& card) {
  io::write_file_atomically(folder / "README.md", convert::card_text(card));
  if (!card.verified) io::write_file_atomically(folder / "UNVERIFIED", convert::unverified_text(card));
}

}  // namespace

int export_checkpoint(const Session& session) {
  const Start start = open_start(session, choose_together(session, [&] { return chosen_checkpoint(session); }));
  const fs::path folder = folder_of(session, start.reader->step());
  comm::on_all_ranks(session.world, [&] {
    if (session.first()) convert::ExportFolder::require_free(folder);
  });
  const CheckTexts check = choose_texts(session, start);
  // The two models follow each other, so that there is never more than one in memory.
  const std::vector<at::Tensor> trained = trained_logits(session, start, check.texts);

  convert::ExportCard card = card_of(session, start);
  convert::ExportFolder target(session.world, folder);
  const convert::ExportReport report = convert::write_model_folder(
      session.world, {*start.reader, start.spec, start.store, card.dtype, target.staging()});
  core::log("exported ", start.folder.string(), " (step ", card.step, "): ", report.elements, " parameters as ",
            core::name_of(card.dtype), ", ", core::format_bytes(report.bytes), " in ", report.shards,
            report.shards == 1 ? " file, " : " files, ", core::format_duration(report.seconds));

  const evaluate::LogitDifference difference = check_folder(session, target.staging(), check.texts, trained);
  const evaluate::LogitTolerance tolerance = card.dtype == core::DType::f32
                                                 ? evaluate::same_weights(difference, start.spec.layers)
                                                 : evaluate::rounded_weights(difference);
  card.verified = evaluate::within(difference, tolerance);
  card.check = core::concat(
      "The files were read back, and their logits compared with those of the checkpoint (computed in float32, LoRA "
      "unmerged) at ",
      difference.positions, " tokens ", check.origin, ": ", difference.describe(),
      ". Tolerated: ", tolerance.describe(), ".");
  comm::on_all_ranks(session.world, [&] {
    if (session.first()) write_verdict(target.staging(), card);
  });
  target.commit();
  core::log(card.check);
  if (!card.verified) {
    core::log("DIFFERENT: ", folder.string(), " does not compute what the checkpoint does; it is marked UNVERIFIED");
    return static_cast<int>(core::ExitCode::difference);
  }
  core::log("verified: ", folder.string());
  return 0;
}

}  // namespace caravan::commands
