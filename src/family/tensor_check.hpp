// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "layout/tensor_source.hpp"

namespace caravan::family {

/// What a source or file says of a tensor; nothing when it has none of this name.
template <typename Files>
std::optional<layout::TensorSource::Info> find_info(const Files& files, const std::string& name) {
  if (!files.contains(name)) return std::nullopt;
  return files.info(name);
}

/// Compares the tensors of a folder with what a configuration asks for, and gathers what does not fit.
class TensorCheck {
 public:
  /// "FOLDER: tensors do not fit its config.json"; `configuration` is what says the shapes.
  TensorCheck(std::string beginning, std::string configuration);

  /// A tensor that must be there, of this shape and of a floating type. found: nothing when it is missing.
  void compare(const std::string& name, const layout::Shape& shape,
               const std::optional<layout::TensorSource::Info>& found);
  /// A name that may be there.
  void allow(const std::string& name) { expected_.insert(name); }
  /// Every name that was neither compared nor allowed is one too many.
  void refuse_others(const std::vector<std::string>& names);
  void complain(std::string text) { complaints_.push_back(std::move(text)); }

  /// Throws (exit 2) one message with the first eight complaints, if there are any.
  void finish() const;

 private:
  std::string beginning_, configuration_;
  std::set<std::string> expected_;
  std::vector<std::string> complaints_;
};

}  // namespace caravan::family
