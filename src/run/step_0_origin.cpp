// SPDX-License-Identifier: Apache-2.0
#include "run/step_0_origin.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

namespace caravan::run {
namespace {

constexpr const char* key = "upcycled_from";

}  // namespace

void Step0Origin::write_into(nlohmann::json& state) const { state[key] = {{"base", base}, {"adapter", adapter}}; }

Step0Origin Step0Origin::of(const checkpoint::Manifest& manifest) {
  const nlohmann::json from = manifest.state.value(key, nlohmann::json::object());
  return {from.value("base", ""), from.value("adapter", "")};
}

bool is_same_folder(const std::string& a, const std::string& b) {
  namespace fs = std::filesystem;
  const auto plain = [](const std::string& path) { return (fs::path(path) / "").lexically_normal(); };
  if (plain(a) == plain(b)) return true;
  std::error_code one_is_missing;
  return fs::equivalent(a, b, one_is_missing);
}

}  // namespace caravan::run
