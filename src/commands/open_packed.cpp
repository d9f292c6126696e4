// SPDX-License-Identifier: Apache-2.0
#include "commands/open_packed.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "comm/agreement.hpp"
#include "commands/start.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "data/prepared.hpp"
#include "io/system_error.hpp"

namespace caravan::commands {
namespace {

/// The same text for every rank that sees this very file. A copy elsewhere may have its number and its time of change,
/// but it was made, and nobody can set that, at a moment of its own.
std::string identity_of(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) io::throw_system_error("examine", path, errno);
  return core::concat(status.st_ino, " ", status.st_size, " ", status.st_mtim.tv_sec, ".", status.st_mtim.tv_nsec, " ",
                      status.st_ctim.tv_sec, ".", status.st_ctim.tv_nsec);
}

/// The file; its bytes are verified by the lowest rank that sees this very one.
data::PackedFile open_verified(const Session& session, const std::string& path) {
  std::optional<data::PackedFile> file;
  std::string identity;
  comm::on_all_ranks(session.world, [&] {
    file.emplace(path, data::PackedFile::Check::header);
    identity = identity_of(path);
  });
  const std::vector<std::string> all = session.world.all_gather_text("find out who verifies a packed file", identity);
  const auto verifier = std::find(all.begin(), all.end(), identity) - all.begin();
  comm::on_all_ranks(session.world, [&] {
    if (verifier == session.world.rank()) file->verify();
  });
  return std::move(*file);
}

/// The checksums of the file and of what the checkpoint was trained on, of the kind that the checkpoint has.
std::pair<std::string, std::string> checksums(const nlohmann::json& state, const data::PackedFile& packed) {
  const std::string content = state.value("data_content", "");
  if (content.empty()) return {packed.fingerprint(), state.value("data", "")};
  return {packed.content(), content};
}

}  // namespace

std::vector<data::PackedFile> open_packed(const Session& session, const std::vector<std::string>& paths) {
  std::vector<data::PackedFile> files;
  std::vector<comm::Fact> facts;
  for (const std::string& path : paths) {
    files.push_back(open_verified(session, path));
    facts.push_back({"checksum of " + path, files.back().fingerprint()});
  }
  require_same_files(session, facts);
  return files;
}

void warn_of_other_settings(const Session& session, const data::PackedFile& packed) {
  if (!session.first()) return;
  std::string others;
  for (const std::string& other :
       data::other_settings(packed, session.config.data, session.config.train.sequence, data::SourceCheck::bytes)) {
    others += other + "; ";
  }
  if (others.empty()) return;
  core::log_warning(core::concat(packed.path(), " was prepared with other settings: ", others,
                                 "this run trains on the file as it is: to train on what the settings say, run caravan "
                                 "prepare again"));
}

nlohmann::json facts_of(const data::PackedFile& packed) {
  const std::string metadata = core::json_text(data::to_json(packed.metadata()));
  return {{"data", packed.fingerprint()}, {"data_content", packed.content()}, {"packed", core::parse_json(metadata)}};
}

bool is_same_data(const nlohmann::json& state, const data::PackedFile& packed) {
  const auto [now, then] = checksums(state, packed);
  return now == then;
}

void require_same_data(const nlohmann::json& state, const std::string& folder, const data::PackedFile& packed) {
  const auto [now, then] = checksums(state, packed);
  if (now == then) return;
  core::bad_input("data.packed = ", packed.path(), " is not the file that ", folder, " was trained on (checksums ", now,
                  " and ", then, "); bring the former back, or train on the new one in another run.folder");
}

}  // namespace caravan::commands
