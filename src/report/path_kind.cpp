// SPDX-License-Identifier: Apache-2.0
#include "report/path_kind.hpp"

#include <array>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.hpp"
#include "data/packed_header.hpp"
#include "family/peft.hpp"
#include "run/run_folder.hpp"

namespace caravan::report {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view hdf5_magic = "\x89HDF\r\n\x1a\n";  // HDF5 File Format Specification, "Superblock"
constexpr std::string_view packed_magic{data::PackedHeader::expected_magic.data(),
                                        data::PackedHeader::expected_magic.size()};
constexpr const char* known =
    "; info knows checkpoints and their files, run folders, packed token files, Hugging Face model folders, "
    "PEFT adapter folders, *.safetensors and configuration files (*.ini)";

std::string first_bytes(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) core::bad_input(file.string(), ": cannot be read");
  std::array<char, 16> bytes{};
  in.read(bytes.data(), bytes.size());
  return {bytes.data(), static_cast<std::size_t>(in.gcount())};
}

bool has_entry_like(const fs::path& folder, std::string_view prefix) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with(prefix)) return true;
  }
  return false;
}

bool is_run(const fs::path& folder) {
  const run::RunFolder run(folder);
  return fs::is_directory(run.checkpoints()) || fs::exists(run.metrics());
}

bool is_model(const fs::path& folder) {
  return fs::exists(folder / "config.json") || fs::exists(folder / "model.safetensors") ||
         fs::exists(folder / "model.safetensors.index.json");
}

bool is_adapter(const fs::path& folder) {
  return fs::exists(folder / "adapter_config.json") || fs::exists(folder / family::peft_mixture_folder / "config.json");
}

std::optional<Subject> folder_subject(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (fs::exists(folder / "manifest.json")) return Subject{PathKind::checkpoint, folder};
  if (is_run(folder)) return Subject{PathKind::run, folder};
  if (name == "checkpoints" && has_entry_like(folder, "step-")) return Subject{PathKind::run, folder.parent_path()};
  // A save that was not finished; reading it says so.
  if (has_entry_like(folder, "shard-")) return Subject{PathKind::checkpoint, folder};
  if (is_adapter(folder)) return Subject{PathKind::adapter, folder};
  if (is_model(folder)) return Subject{PathKind::model, folder};
  return std::nullopt;
}

std::optional<Subject> file_subject(const fs::path& file) {
  const fs::path folder = file.parent_path();
  const std::string name = file.filename().string();
  const std::string begin = first_bytes(file);
  if (begin.starts_with(packed_magic)) return Subject{PathKind::packed, file};
  if (begin.starts_with(hdf5_magic)) {
    if (fs::exists(folder / "manifest.json") || name.starts_with("shard-"))
      return Subject{PathKind::checkpoint, folder};
    return std::nullopt;
  }
  if (name.ends_with(".safetensors")) return Subject{PathKind::safetensors, file};
  if (name.ends_with(".ini")) return Subject{PathKind::configuration, file};
  if (name == "adapter_config.json") return Subject{PathKind::adapter, folder};
  const run::RunFolder run(folder);
  if (file == run.metrics() || file == run.log() || file == run.lock() || file == run.starts()) {
    if (is_run(folder)) return Subject{PathKind::run, folder};
  }
  const bool in_checkpoint = fs::exists(folder / "manifest.json");
  // An HDF5 file of ours whose first bytes are lost is still known by its name.
  if (in_checkpoint && (name == "manifest.json" || name.starts_with("shard-") || name == "master.h5")) {
    return Subject{PathKind::checkpoint, folder};
  }
  if (name == "config.json" || name == "model.safetensors.index.json") {
    return Subject{in_checkpoint ? PathKind::checkpoint : PathKind::model, folder};
  }
  return std::nullopt;
}

}  // namespace

Subject find_subject(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) core::bad_input(path.string(), ": there is no such file or folder");
  if (error) core::bad_input(path.string(), ": cannot be read: ", error.message());
  // A trailing "/" would hide the name, and "." has none.
  const fs::path full = fs::weakly_canonical(path);
  std::optional<Subject> subject;
  try {
    if (fs::is_directory(status)) subject = folder_subject(full);
    if (fs::is_regular_file(status)) subject = file_subject(full);
  } catch (const fs::filesystem_error& refused) {
    core::bad_input(path.string(), ": cannot be read: ", refused.code().message());
  }
  if (!subject) core::bad_input(path.string(), ": is nothing that this program reads or writes", known);
  // The user's own spelling of the path, where it is the subject itself.
  if (subject->path == full && path.has_filename()) subject->path = path;
  return *subject;
}

}  // namespace caravan::report
