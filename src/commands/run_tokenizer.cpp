// SPDX-License-Identifier: Apache-2.0
#include "commands/run_tokenizer.hpp"

#include <nlohmann/json.hpp>

#include "checkpoint/manifest.hpp"
#include "commands/open_packed.hpp"
#include "core/log.hpp"
#include "core/system_error.hpp"
#include "core/text.hpp"
#include "data/prepared.hpp"

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

void require_same_tokenizer(const data::PackedFile& file, const data::Tokenizer& tokenizer) {
  const std::vector<std::string> differences = data::other_tokenizer(file, tokenizer);
  if (differences.empty()) return;
  core::bad_input(file.path(), " was made with another tokenizer than ", tokenizer.path(), ": ",
                  core::join(differences, "; "), "; ", advice);
}

/// What to do when the tokenizer of step 0 is not the one that is wanted.
std::string ways_out(const Session& session, const fs::path& store) {
  const std::string& base = session.config.model.base;
  return core::concat("set data.tokenizer = ", base.empty() ? "the folder of the right one" : base,
                      " in all stages, or remove ", store.string(), " and run caravan upcycle again");
}

/// Nothing, and in `wrong` the message, where the files are not those of a tokenizer.
std::unique_ptr<data::Tokenizer> try_to_open(const std::string& path, std::string& wrong) {
  try {
    return data::open_tokenizer(path);
  } catch (const core::SystemError&) {
    throw;
  } catch (const core::Error& error) {
    wrong = error.what();
    return nullptr;
  }
}

/// The file that a checkpoint was trained on, if data.packed still names it; else `unknown` says why not.
std::optional<data::PackedFile> find_data(const Session& session, const Start& start, std::string& unknown) {
  const std::string& path = session.config.data.packed;
  unknown = "data.packed does not name the file that it was trained on";
  if (path.empty() || !fs::exists(path)) return std::nullopt;
  try {
    data::PackedFile file(path);
    if (is_same_data(start.reader->state(), file)) return file;
  } catch (const core::Error& error) {
    if (!checkpoint::is_damage(error)) throw;  // a storage that fails says nothing of the file
    unknown = error.what();
  }
  return std::nullopt;
}

}  // namespace

std::unique_ptr<data::Tokenizer> open_run_tokenizer(const Session& session, const Start& start) {
  std::string wrong;
  auto tokenizer = try_to_open(data::tokenizer_path(session.config.data, start.store.string()), wrong);
  if (!tokenizer && !session.config.data.tokenizer.empty()) core::bad_input(wrong);
  if (!tokenizer) core::bad_input(wrong, "; ", ways_out(session, start.store));
  tokenizer->log_warnings();
  const auto packed = start.reader->state().value("packed", nlohmann::json());
  if (!packed.is_object() || tokenizer->matches(packed.value("tokenizer", ""))) return tokenizer;
  const nlohmann::ordered_json was = packed.value("tokenizer_identity", nlohmann::json());
  core::bad_input(start.folder.string(), " was trained on data of another tokenizer than ", tokenizer->path(),
                  differences_of(*tokenizer, was), "; ", advice);
}

std::optional<std::int32_t> trained_eos(const Session& session, const Start& start, const data::Tokenizer& tokenizer) {
  if (start.reader->step() == 0 || tokenizer.eos_id() < 0) return std::nullopt;
  const nlohmann::json packed = start.reader->state().value("packed", nlohmann::json());
  if (packed.is_object() && packed.contains("tokenizer_identity")) return data::trained_eos(packed);
  // Data of an earlier version do not name it: it is what their records end with.
  std::string unknown;
  if (const auto file = find_data(session, start, unknown)) {
    require_same_tokenizer(*file, tokenizer);
    if (!file->last_tokens().empty()) return tokenizer.eos_id();
    unknown = core::concat("all records of ", file->path(), " are cut");
  }
  core::log_warning(core::concat("it is not known which token the answers of ", start.folder.string(),
                                 " end with: ", unknown,
                                 "; eos_token_id of the export is that of the base. Set data.packed to the file that "
                                 "it was trained on, and export again"));
  return std::nullopt;
}

void require_same_tokens(const data::PackedFile& file, const data::Tokenizer& tokenizer, const Start& start) {
  require_same_tokenizer(file, tokenizer);
  if (file.metadata().vocabulary > start.spec.vocabulary && file.largest_id() >= start.spec.vocabulary) {
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

TokenizerOfData tokenizer_of_data(const Session& session) {
  const config::Config& config = session.config;
  const std::string& base = config.model.base;
  const fs::path store = step_0_folder(session);
  if (!config.data.tokenizer.empty() || !fs::exists(store / "manifest.json")) return {base, ""};
  std::string wrong_in_store, wrong_in_base;
  const auto in_store = try_to_open(store.string(), wrong_in_store);
  if (base.empty()) return {store.string(), ""};
  const auto in_base = try_to_open(base, wrong_in_base);
  if (!in_base) return {in_store && !fs::exists(base) ? store.string() : base, ""};  // prepare says what is wrong
  if (!in_store) return {base, core::concat(wrong_in_store, "; ", ways_out(session, store))};
  if (in_store->fingerprint() == in_base->fingerprint()) return {store.string(), ""};
  return {store.string(), core::concat(base, " has another tokenizer by now than ", store.string(),
                                       ", which upcycle filled", differences_of(*in_base, in_store->identity()),
                                       "; training takes that of step 0: ", ways_out(session, store))};
}

}  // namespace caravan::commands
