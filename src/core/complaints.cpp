// SPDX-License-Identifier: Apache-2.0
#include "core/complaints.hpp"

namespace caravan::core {

void Complaints::need(const std::string& value, std::string_view section, std::string_view key, std::string_view why) {
  if (!value.empty()) return;
  add(section, ".", key, " is not set (", why,
      "): ", file_.empty() ? "" : concat("set [", section, "] ", key, "=… in ", file_, " or "), "pass --", section, ".",
      key, "=…");
}

void Complaints::end() const {
  if (!message_.empty()) throw Error(ExitCode::bad_input, message_);
}

}  // namespace caravan::core
