// SPDX-License-Identifier: Apache-2.0
#include "family/tensor_check.hpp"

#include <cstddef>

#include "core/error.hpp"
#include "io/copy_converted.hpp"

namespace caravan::family {

TensorCheck::TensorCheck(std::string beginning, std::string configuration)
    : beginning_(std::move(beginning)), configuration_(std::move(configuration)) {}

void TensorCheck::compare(const std::string& name, const layout::Shape& shape,
                          const std::optional<layout::TensorSource::Info>& found) {
  expected_.insert(name);
  if (!found) {
    complain(name + " is missing");
  } else if (found->shape != shape) {
    complain(core::concat(name, " has shape ", layout::to_string(found->shape), ", ", configuration_, " ",
                          layout::to_string(shape)));
  } else if (!io::convertible(found->dtype, core::DType::f32)) {
    complain(core::concat(name, " has elements of ", core::name_of(found->dtype), ", which is no floating type"));
  }
}

void TensorCheck::refuse_others(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (!expected_.contains(name)) complain(name + " is not expected");
  }
}

void TensorCheck::finish() const {
  if (complaints_.empty()) return;
  constexpr std::size_t most = 8;
  std::string text = beginning_ + ": ";
  for (std::size_t i = 0; i < complaints_.size() && i < most; ++i) text += (i > 0 ? "; " : "") + complaints_[i];
  if (complaints_.size() > most) text += core::concat("; and ", complaints_.size() - most, " more");
  core::bad_input(text);
}

}  // namespace caravan::family
