// SPDX-License-Identifier: Apache-2.0
#include "convert/export.hpp"

#include <algorithm>

#include "comm/agreement.hpp"
#include "comm/start_watchdog.hpp"
#include "commands/run_tokenizer.hpp"
#include "convert/chat_template.hpp"
#include "convert/export_adapter.hpp"
#include "convert/export_card.hpp"
#include "convert/export_folder.hpp"
#include "core/build_facts.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "core/random.hpp"
#include "core/text.hpp"
#include "data/chat_template.hpp"
#include "evaluate/compare.hpp"
#include "family/families.hpp"
#include "family/hugging_face_source.hpp"
#include "family/peft_source.hpp"
#include "io/atomic_file.hpp"
#include "run/export_record.hpp"
#include "run/step_0_origin.hpp"

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
CheckTexts choose_texts(const Session& session, const Start& start, const data::Tokenizer* tokenizer) {
  CheckTexts check;
  comm::on_all_ranks(session.world, [&] {
    if (!session.first()) return;
    check = drawn_texts(start.spec);
    const data::Options& data = session.config.data;
    const fs::path path = data::held_out_path(data);
    if ((data.packed.empty() && data.held_out.empty()) || !fs::exists(path)) return;
    try {
      const data::PackedFile file(path.string());
      if (tokenizer) {
        require_same_tokens(file, *tokenizer, start);
      } else {
        require_same_tokens(file, *open_run_tokenizer(session, start), start);
      }
      check = held_out_texts(file);
    } catch (const core::Error& error) {
      if (!checkpoint::is_damage(error)) throw;  // a storage that fails says nothing of the file
      core::log_warning(core::concat(error.what(), "; the export is checked on random tokens instead"));
    }
  });
  const nlohmann::json chosen{{"origin", check.origin}, {"texts", check.texts}};
  const auto shared =
      core::parse_json(session.world.broadcast_text("share the texts of the check", core::json_text(chosen), 0));
  return {shared.at("origin"), shared.at("texts")};
}

/// Logits of the texts that this rank computes: [text] → [tokens, V]; the others' stay undefined.
std::vector<at::Tensor> trained_logits(const Session& session, const Start& start, const TokenTexts& texts) {
  Model model(session, start);
  load_trainable(session, model, *start.reader);
  std::vector<std::vector<at::Tensor>> parts(texts.size());
  evaluate::run_texts(model.context, *model.decoder, texts,
                      [&](std::size_t text, std::int64_t, const at::Tensor& logits) { parts[text].push_back(logits); });
  std::vector<at::Tensor> logits(texts.size());
  for (std::size_t text = 0; text < texts.size(); ++text) {
    if (!parts[text].empty()) logits[text] = at::cat(parts[text]);
  }
  return logits;
}

/// The base that an adapter stands on, as its own folder holds it.
struct Base {
  std::string folder;
  family::ModelSpec spec;
  family::HuggingFaceSource files;
};

// Throws unless the checkpoint's model is this base with something added: an adapter folder says nothing else.
void require_base(const family::ModelSpec& base, const std::string& folder, const family::ModelSpec& trained) {
  if (base.rotary.theta != trained.rotary.theta) {
    core::bad_input(folder, "/config.json: rope_theta = ", base.rotary.theta, ", but the model was trained with ",
                    trained.rotary.theta, ", which an adapter folder cannot say; set it in that file, or export with ",
                    "merge = true");
  }
  family::ModelSpec same = base;
  same.lora = trained.lora;
  same.pesc = trained.pesc;
  if (family::find_family(base.model_type) == family::find_family(trained.model_type)) {
    same.model_type = trained.model_type;
  }
  if (same == trained) return;
  core::bad_input(folder,
                  "/config.json describes another model than the one that was trained; set model.base to the "
                  "folder that caravan upcycle took");
}

Base open_base(const Session& session, const Start& start) {
  std::optional<Base> base;
  comm::on_all_ranks(session.world, [&] {
    convert::require_adapter(start.spec);
    const nlohmann::json settings = start.reader->state().value("config", nlohmann::json::object());
    std::string folder = session.config.model.base;
    if (folder.empty()) folder = settings.value("model", nlohmann::json::object()).value("base", "");
    if (folder.empty()) core::bad_input("model.base is not set, and an adapter is checked on its base: set it");
    family::ModelSpec spec = family::read_model_spec(folder);
    require_base(spec, folder, start.spec);
    family::HuggingFaceSource files(folder, spec);
    base.emplace(Base{folder, std::move(spec), std::move(files)});
  });
  return std::move(*base);
}

evaluate::LogitDifference compare(const Session& session, const family::ModelSpec& spec,
                                  const layout::TensorSource& source, const TokenTexts& texts,
                                  const std::vector<at::Tensor>& trained) {
  Model model(session, spec, source);
  load_trainable(session, model, source);
  return evaluate::compare_logits(
      model.context, *model.decoder, texts,
      [&](std::size_t text, std::int64_t first, std::int64_t rows) { return trained[text].narrow(0, first, rows); });
}

/// Reads the folder back into a second model, with its base if it is an adapter, and compares.
evaluate::LogitDifference check_folder(const Session& session, const fs::path& folder, const std::optional<Base>& base,
                                       const TokenTexts& texts, const std::vector<at::Tensor>& trained) {
  family::ModelSpec spec;
  std::optional<family::HuggingFaceSource> files;
  std::optional<family::AdaptedSource> adapted;
  comm::on_all_ranks(session.world, [&] {
    if (base) {
      const family::PeftAdapter adapter = family::read_peft_adapter(folder.string());
      spec = family::adapted(base->spec, adapter);
      adapted.emplace(base->files, family::PeftSource(adapter, spec));
    } else {
      spec = family::read_model_spec(folder.string());
      files.emplace(folder.string(), spec);
    }
  });
  if (base) return compare(session, spec, *adapted, texts, trained);
  return compare(session, spec, *files, texts, trained);
}

fs::path folder_of(const Session& session, std::int64_t step) {
  if (!session.config.export_.folder.empty()) return session.config.export_.folder;
  return session.run().exported(step, session.config.export_.merge);
}

core::DType automatic_dtype(bool merge, const family::ModelSpec& spec) {
  // What was trained is float32, and an adapter is little: it is kept as it is.
  return merge ? spec.dtype : core::DType::f32;
}

core::DType dtype_of(const Session& session, const Start& start) {
  switch (session.config.export_.dtype) {
    case convert::ExportType::float32: return core::DType::f32;
    case convert::ExportType::bfloat16: return core::DType::bf16;
    case convert::ExportType::float16: return core::DType::f16;
    case convert::ExportType::automatic: break;
  }
  return automatic_dtype(session.config.export_.merge, start.spec);
}

/// The folder that says on what terms the base may be used: step 0, or the base where an earlier version made step 0.
fs::path folder_of_terms(const Session& session, const Start& start, const std::string& recorded_base,
                         const std::string& base) {
  if (!convert::license_of(start.store).id.empty() || !convert::files_of_terms(start.store).empty()) return start.store;
  // model.base may name another model by now: it is asked only where step 0 does not say what it was made from.
  for (const std::string& folder : {recorded_base.empty() ? session.config.model.base : recorded_base, base}) {
    if (!folder.empty() && fs::is_directory(folder)) return folder;
  }
  return start.store;
}

double expert_dropout_of(const Session& session, const nlohmann::json& settings) {
  return settings.value("train", nlohmann::json::object()).value("expert_dropout", session.config.train.expert_dropout);
}

convert::ExportCard card_of(const Session& session, const Start& start) {
  convert::ExportCard card;
  card.spec = start.spec;
  card.dtype = dtype_of(session, start);
  card.merged = session.config.export_.merge;
  card.format = session.config.export_.format;
  card.checkpoint = start.folder.string();
  card.step = start.reader->step();
  card.settings = start.reader->state().value("config", nlohmann::json::object());
  card.packed = start.reader->state().value("packed", nlohmann::json());
  card.base = card.settings.value("model", nlohmann::json::object()).value("base", session.config.model.base);
  if (card.base.empty()) card.base = "a dense model";
  card.program = core::build_facts_text();
  return card;
}

/// What stands beside the weights and comes from the base's folder. One rank's to find out.
struct FromBase {
  std::string chat_template;  // of the training, for the base's tokenizer
  fs::path terms;
};

FromBase find_in_base(const Session& session, const Start& start, const data::Tokenizer* tokenizer,
                      convert::ExportCard& card) {
  FromBase found;
  comm::on_all_ranks(session.world, [&] {
    if (!session.first()) return;
    const std::string made_from = run::Step0Origin::of(checkpoint::Manifest::read(start.store)).base;
    if (card.merged && !made_from.empty()) card.base = made_from;
    if (tokenizer) found.chat_template = data::trained_chat_template(start.reader->state(), *tokenizer);
    found.terms = folder_of_terms(session, start, made_from, card.base);
    fs::path files = data::tokenizer_path(session.config.data, start.store.string());
    const bool one_file = !fs::is_directory(files);
    if (one_file) files = files.parent_path();
    const std::optional<std::string> base_template = convert::chat_template_in(files);
    card.chat =
        convert::chat_template_report(found.chat_template, base_template, card.step > 0, convert::find_tekken(files));
    card.tokenizer = (fs::path(session.config.data.tokenizer) / "").parent_path().filename().string();
    if (!one_file && !convert::has_tokenizer(files)) {
      card.prompt = convert::PromptOf::none;
    } else if (found.chat_template.empty() && !base_template) {
      card.prompt = convert::PromptOf::text;
    }
    card.license = convert::license_of(found.terms);
    card.terms = convert::files_of_terms(found.terms);
    core::log(card.chat);
    if (!card.license.id.empty()) return;
    core::log_warning(core::concat("neither README.md nor a LICENSE file of ", card.base,
                                   " says on what terms it may be used; README.md of the export has no license: add "
                                   "one before you share it"));
  });
  return found;
}

convert::ExportReport write_folder(const Session& session, const Start& start, const convert::ExportCard& card,
                                   const FromBase& from_base, const fs::path& folder) {
  if (card.merged) {
    const convert::CompanionSources companions{
        start.store, data::tokenizer_path(session.config.data, start.store.string()), card.eos};
    const convert::ExportedAs as{card.dtype, card.format, expert_dropout_of(session, card.settings)};
    convert::ExportRequest request{*start.reader, start.spec, companions, as, folder};
    request.chat_template = from_base.chat_template;
    request.terms = from_base.terms;
    return convert::write_model_folder(session.world, request);
  }
  const double dropout =
      card.settings.value("lora", nlohmann::json::object()).value("dropout", session.config.lora.dropout);
  convert::AdapterRequest request{
      *start.reader, start.spec, card.base, dropout, expert_dropout_of(session, card.settings), card.dtype, folder};
  request.tokenizer = data::tokenizer_path(session.config.data, start.store.string());
  request.chat_template = from_base.chat_template;
  request.terms = from_base.terms;
  return convert::write_adapter_folder(session.world, request);
}

/// What the folder was made from, for caravan status.
run::ExportRecord record_of(const Start& start, const convert::ExportCard& card) {
  return {.checkpoint = run::checkpoint_identity(checkpoint::Manifest::read(start.folder)),
          .step = card.step,
          .dtype = std::string(core::name_of(card.dtype)),
          .automatic_dtype = std::string(core::name_of(automatic_dtype(card.merged, start.spec))),
          .merge = card.merged,
          .format = std::string(core::spelling(card.format)),
          .program = card.program};
}

/// README.md comes last: without it the folder is no result.
void write_verdict(const fs::path& folder, const Start& start, const convert::ExportCard& card) {
  record_of(start, card).write(folder);
  if (!card.verified) io::write_file_atomically(folder / "UNVERIFIED", convert::unverified_text(card));
  io::write_file_atomically(folder / "README.md", convert::card_text(card));
}

}  // namespace

int export_checkpoint(const Session& session) {
  const auto watchdog =
      comm::start_watchdog_beside(session.world, session.run().watchdog_of("export"), session.config.watchdog.seconds);
  const Start start = open_chosen(session);
  const fs::path folder = folder_of(session, start.reader->step());
  comm::on_all_ranks(session.world, [&] {
    if (session.first()) convert::ExportFolder::require_free(folder);
  });
  std::optional<Base> base;
  if (!session.config.export_.merge) base.emplace(open_base(session, start));
  // A model that was trained goes with the tokenizer of its data; what was not may have one that is not supported.
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::optional<std::int32_t> eos;
  if (start.reader->step() > 0) {
    comm::on_all_ranks(session.world, [&] {
      tokenizer = open_run_tokenizer(session, start);
      if (session.first()) eos = trained_eos(session, start, *tokenizer);  // who writes the files; may read all data
    });
  }
  const CheckTexts check = choose_texts(session, start, tokenizer.get());
  // The two models follow each other, so that there is never more than one in memory.
  const std::vector<at::Tensor> trained = trained_logits(session, start, check.texts);

  convert::ExportCard card = card_of(session, start);
  if (base) card.base = base->folder;
  card.eos = eos;
  const FromBase from_base = find_in_base(session, start, tokenizer.get(), card);
  convert::ExportFolder target(session.world, folder);
  const convert::ExportReport report = write_folder(session, start, card, from_base, target.staging());
  core::log("exported ", start.folder.string(), " (step ", card.step, "): ", report.elements, " parameters as ",
            core::name_of(card.dtype), ", ", core::format_bytes(report.bytes), " in ", report.shards,
            report.shards == 1 ? " file, " : " files, ", core::format_duration(report.seconds));

  const evaluate::LogitDifference difference = check_folder(session, target.staging(), base, check.texts, trained);
  const train::Precision precision = session.config.train.precision;
  const bool exact = card.dtype == core::DType::f32 && precision == train::Precision::fp32;
  const evaluate::LogitTolerance tolerance =
      exact ? evaluate::same_weights(difference, start.spec.layers) : evaluate::rounded_weights(difference);
  card.verified = evaluate::within(difference, tolerance);
  card.check =
      core::concat("The files were read back", base ? " with their base" : "",
                   ", and their logits compared with those of the checkpoint (both computed in ",
                   core::spelling(precision), ", the checkpoint's LoRA unmerged) at ", difference.positions, " tokens ",
                   check.origin, ": ", difference.describe(), ". Tolerated: ", tolerance.describe(), ".");
  comm::on_all_ranks(session.world, [&] {
    if (session.first()) write_verdict(target.staging(), start, card);
  });
  end_if_asked(session);
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
