// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/error.hpp"

namespace caravan::core {

/// What is wrong with a configuration, one line for each complaint: a user sees all of them at once.
class Complaints {
 public:
  /// file: where the configuration was read from, for the messages; empty: from the command line alone.
  explicit Complaints(std::string file) : file_(std::move(file)) {}

  template <typename... Parts>
  void add(const Parts&... parts) {
    message_ += (message_.empty() ? "" : "\n") + concat(parts...);
  }

  /// Complains about a setting without a value: "run.folder is not set (WHY): set [run] folder=… in FILE or pass
  /// --run.folder=…".
  void need(const std::string& value, std::string_view section, std::string_view key, std::string_view why);

  /// Throws (exit 2) when there is a complaint.
  void end() const;

 private:
  std::string file_;
  std::string message_;
};

}  // namespace caravan::core
