// SPDX-License-Identifier: Apache-2.0
#include "run/export_record.hpp"

#include <nlohmann/json.hpp>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "io/atomic_file.hpp"

namespace caravan::run {
namespace {

constexpr const char* file_name = "export.json";

}  // namespace

std::string ExportRecord::describe() const {
  return core::concat("step ", step, " as ", dtype, ", with export.merge = ", merge ? "true" : "false",
                      " and export.format = ", format);
}

void ExportRecord::write(const std::filesystem::path& folder) const {
  const nlohmann::ordered_json record{
      {"checkpoint", checkpoint}, {"step", step},     {"dtype", dtype},    {"automatic_dtype", automatic_dtype},
      {"merge", merge},           {"format", format}, {"program", program}};
  io::write_file_atomically(folder / file_name, core::json_text(record, 2) + "\n");
}

std::optional<ExportRecord> ExportRecord::read(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / file_name;
  if (!std::filesystem::exists(file)) return std::nullopt;
  const std::string text = io::read_file(file);
  try {
    const nlohmann::json record = core::parse_json(text);
    return ExportRecord{record.at("checkpoint"), record.at("step"),   record.at("dtype"),  record.at("automatic_dtype"),
                        record.at("merge"),      record.at("format"), record.at("program")};
  } catch (const nlohmann::json::exception& error) {
    core::bad_input(file.string(), ": ", error.what(), "; export again into another folder");
  }
}

std::string checkpoint_identity(const checkpoint::Manifest& manifest) {
  std::string parts = checkpoint::content_of(manifest);
  if (manifest.store)
    parts += manifest.store->content.empty() ? manifest.store->manifest_hash : manifest.store->content;
  return core::checksum(parts.data(), parts.size());
}

}  // namespace caravan::run
