// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "report/page.hpp"

namespace caravan::report {

/// {"train": {"lr": 0.004, …}, …} against the defaults of this program: a list of those that differ, under a heading
/// that begins with `whose`.
void write_settings(const std::string& whose, const nlohmann::json& settings, const nlohmann::json& defaults,
                    Page& page);

}  // namespace caravan::report
