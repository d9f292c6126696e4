// SPDX-License-Identifier: Apache-2.0
#include "commands/run_tokenizer.hpp"

#include <nlohmann/json.hpp>

#include "core/log.hpp"
#include "core/text.hpp"

namespace caravan::commands {
namespace {

namespace fs = std::filesystem;

constexpr const char* advice =
    "set data.tokenizer to the tokenizer that the data were prepared with, in all stages, or prepare them again with "
    "this one";

/// ": eos_token is …, but it was …", where it is known.
std::string differences_of(const data::Tokenizer& tokenizer, const nlohmann::ordered_json& was) {
  const std::vector<std::string> differences = data::describe_differences(tokenizer.identity(), was);
  return differences.empty() ? "" : ": " + core::join(differences, "; ");
}

}  // namespace

std::unique_ptr<data::Tokenizer> open_run_tokenizer(const Session& session, const Start& start) {
  auto tokenizer = data::open_tokenizer(data::tokenizer_path(session.config.data, start.store.string()));
  tokenizer->log_warnings();
  const auto packed = start.reader->state().value("packed", nlohmann::json());
  if (!packed.is_object() || tokenizer->matches(packed.value("tokenizer", ""))) return tokenizer;
  const nlohmann::ordered_json was = packed.value("tokenizer_identity", nlohmann::json());
  core::bad_input(start.folder.string(), " was trained on data of another tokenizer than ", tokenizer->path(),
                  differences_of(*tokenizer, was), "; ", advice);
}

std::optional<std::int32_t> trained_eos(const Start& start, const data::Tokenizer& tokenizer) {
  if (start.reader->step() == 0) return std::nullopt;
  const auto eos = data::trained_eos(start.reader->state().value("packed", nlohmann::json()));
  if (eos) return eos;
  return tokenizer.eos_id() < 0 ? std::nullopt : std::optional(tokenizer.eos_id());
}

void require_same_tokens(const data::PackedFile& file, const data::Tokenizer& tokenizer, const Start& start) {
  const data::PackedMetadata& metadata = file.metadata();
  if (!tokenizer.matches(metadata.tokenizer)) {
    core::bad_input(file.path(), " was made with another tokenizer than ", tokenizer.path(),
                    differences_of(tokenizer, metadata.tokenizer_identity), "; ", advice);
  }
  // A fingerprint of earlier versions says nothing of the files beside tokenizer.model.
  if (metadata.tokenizer != tokenizer.fingerprint() && !file.ends_with(tokenizer.eos_id())) {
    core::bad_input(file.path(), " was made with another tokenizer than ", tokenizer.path(), ": no record ends with ",
                    tokenizer.eos_text(), " (id ", tokenizer.eos_id(), "); ", advice);
  }
  if (metadata.vocabulary > start.spec.vocabulary && file.largest_id() >= start.spec.vocabulary) {
    core::bad_input(file.path(), " has the token ", file.largest_id(), ", but the model's vocabulary is ",
                    start.spec.vocabulary, "; run caravan prepare again with the model's tokenizer");
  }
}

void check_tokenizer_of_base(const Session& session) {
  const fs::path path = data::tokenizer_path(session.config.data, session.config.model.base);
  if (!fs::exists(path)) core::bad_input("data.tokenizer = ", path.string(), ": no such folder or tokenizer.model");
  if (!session.first() || (fs::is_directory(path) && !fs::exists(path / "tokenizer.model"))) return;
  try {
    data::open_tokenizer(path.string());
  } catch (const core::Error& error) {
    core::log_warning(core::concat(error.what(), "; caravan prepare is going to refuse this tokenizer"));
  }
}

void warn_of_other_tokenizer(const Session& session) {
  const config::Config& config = session.config;
  const fs::path store = step_0_folder(session);
  if (!session.first() || !config.data.tokenizer.empty() || config.model.base.empty()) return;
  if (!fs::exists(store / "manifest.json")) return;
  try {
    const auto in_store = data::open_tokenizer(store.string()), in_base = data::open_tokenizer(config.model.base);
    if (in_store->fingerprint() == in_base->fingerprint()) return;
    core::log_warning(
        core::concat(config.model.base, " has another tokenizer by now than ", store.string(), ", which upcycle filled",
                     differences_of(*in_base, in_store->identity()),
                     "; training refuses data of one with the other. Set data.tokenizer = ", config.model.base,
                     " in all stages, or remove ", store.string(), " and run caravan upcycle again"));
  } catch (const core::Error&) {
    return;  // a stage that needs the tokenizer says what is wrong with it
  }
}

}  // namespace caravan::commands
