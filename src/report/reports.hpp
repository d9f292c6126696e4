// SPDX-License-Identifier: Apache-2.0
// What info() says of each kind of thing. Each throws (exit 2) when it cannot be read at all.
#pragma once

#include <filesystem>
#include <string>

#include "family/model_spec.hpp"
#include "report/info.hpp"
#include "report/page.hpp"

namespace caravan::report {

void report_checkpoint(const std::filesystem::path& folder, const Request& request, Page& page);
void report_run(const std::filesystem::path& folder, const Request& request, Page& page);
void report_packed_file(const std::filesystem::path& file, const Request& request, Page& page);
void report_model(const std::filesystem::path& folder, const Request& request, Page& page);
void report_adapter(const std::filesystem::path& folder, const Request& request, Page& page);
void report_safetensors(const std::filesystem::path& file, const Request& request, Page& page);

/// Family and sizes of a model: a few lines.
std::string describe(const family::ModelSpec& spec);

}  // namespace caravan::report
