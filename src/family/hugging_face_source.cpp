// SPDX-License-Identifier: Apache-2.0
#include "family/hugging_face_source.hpp"

#include <cstddef>
#include <set>

#include "core/error.hpp"
#include "family/parameters.hpp"

namespace caravan::family {
namespace {

bool is_floating(core::DType dtype) {
  return dtype == core::DType::f32 || dtype == core::DType::bf16 || dtype == core::DType::f16 ||
         dtype == core::DType::f64;
}

// Empty, or what is wrong with this tensor of the folder.
std::string complaint(const io::SafetensorsDirectory& directory, const ForeignPart& part) {
  if (!directory.contains(part.name)) return part.name + " is missing";
  const auto info = directory.info(part.name);
  if (info.shape != part.shape) {
    return core::concat(part.name, " has shape ", layout::to_string(info.shape), ", config.json makes it ",
                        layout::to_string(part.shape));
  }
  if (!is_floating(info.dtype)) {
    return core::concat(part.name, " has elements of ", core::name_of(info.dtype), ", which is no floating type");
  }
  return "";
}

[[noreturn]] void refuse(const std::string& folder, const std::vector<std::string>& complaints) {
  constexpr std::size_t most = 8;
  std::string text = folder + ": tensors do not fit its config.json: ";
  for (std::size_t i = 0; i < complaints.size() && i < most; ++i) text += (i > 0 ? "; " : "") + complaints[i];
  if (complaints.size() > most) text += core::concat("; and ", complaints.size() - most, " more");
  core::bad_input(text);
}

}  // namespace

HuggingFaceSource::HuggingFaceSource(const std::string& folder, const ModelSpec& spec) : directory_(folder) {
  std::vector<std::string> complaints;
  std::set<std::string> expected;
  for (const layout::ParameterSpec& parameter : parameter_specs(spec)) {
    std::vector<ForeignPart> parts = hugging_face_parts(spec, parameter);
    if (parts.empty()) continue;
    for (const ForeignPart& part : parts) {
      expected.insert(part.name);
      if (std::string text = complaint(directory_, part); !text.empty()) complaints.push_back(std::move(text));
    }
    tensors_.emplace(parameter.name, Tensor{parameter.shape, std::move(parts)});
  }
  for (const std::string& name : directory_.names()) {
    if (!expected.contains(name) && !name.ends_with(".rotary_emb.inv_freq")) {
      complaints.push_back(name + " is not expected");
    }
  }
  if (!complaints.empty()) refuse(folder, complaints);
}

const HuggingFaceSource::Tensor& HuggingFaceSource::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) core::bad_input(where(), ": there is no tensor ", name);
  return found->second;
}

layout::TensorSource::Info HuggingFaceSource::info(const std::string& name) const {
  const Tensor& ours = tensor(name);
  return {ours.shape, directory_.info(ours.parts.front().name).dtype};
}

void HuggingFaceSource::read(const std::string& name, const layout::Rectangle& part, core::DType dtype,
                             void* target) const {
  const Tensor& ours = tensor(name);
  if (part.count() == 0) return;
  auto* out = static_cast<std::byte*>(target);
  for (const ForeignPart& foreign : ours.parts) {
    const auto box = layout::intersect(part, foreign.place);
    if (!box) continue;
    // A foreign tensor is whole, or one index of our first dimension, so boxes follow each other without gaps.
    layout::Rectangle inside = *box;
    if (foreign.shape.size() < ours.shape.size()) {
      inside.offset.erase(inside.offset.begin());
      inside.extent.erase(inside.extent.begin());
    }
    directory_.read(foreign.name, inside, dtype, out);
    out += static_cast<std::size_t>(box->count()) * core::size_of(dtype);
  }
}

}  // namespace caravan::family
