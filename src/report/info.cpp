// SPDX-License-Identifier: Apache-2.0
#include "report/info.hpp"

#include "core/error.hpp"
#include "report/path_kind.hpp"
#include "report/reports.hpp"
#include "report/settings.hpp"

namespace caravan::report {
namespace {

void report_configuration(const std::filesystem::path& file, const Request& request, Page& page) {
  const nlohmann::json settings = request.read_settings(file.string());
  page.title("configuration", file.string());
  write_settings("settings", settings, request.default_settings, page);
  page.checked("every line is a setting of this program, with a value in its range");
}

void write(const Subject& subject, const Request& request, Page& page) {
  switch (subject.kind) {
    case PathKind::checkpoint: return report_checkpoint(subject.path, request, page);
    case PathKind::run: return report_run(subject.path, request, page);
    case PathKind::packed: return report_packed_file(subject.path, request, page);
    case PathKind::model: return report_model(subject.path, request, page);
    case PathKind::adapter: return report_adapter(subject.path, request, page);
    case PathKind::safetensors: return report_safetensors(subject.path, request, page);
    case PathKind::configuration: return report_configuration(subject.path, request, page);
  }
}

}  // namespace

Report info(const Request& request) {
  const Subject subject = find_subject(request.path);
  Page page;
  try {
    write(subject, request, page);
  } catch (const core::Error& error) {
    if (!request.verify || error.code() != core::ExitCode::bad_input) throw;
    page.problem(error.what());
  } catch (const nlohmann::json::exception& error) {  // a field of another type than this program writes
    const std::string message =
        core::concat(subject.path.string(), ": is not as this program writes it: ", error.what());
    if (!request.verify) core::bad_input(message);
    page.problem(message);
  }
  return {page.text(), page.problems()};
}

}  // namespace caravan::report
