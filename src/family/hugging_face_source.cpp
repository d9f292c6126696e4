// SPDX-License-Identifier: Apache-2.0
#include "family/hugging_face_source.hpp"

#include <cstddef>

#include "core/error.hpp"
#include "family/parameters.hpp"
#include "family/tensor_check.hpp"

namespace caravan::family {
HuggingFaceSource::HuggingFaceSource(const std::string& folder, const ModelSpec& spec) : directory_(folder) {
  TensorCheck check(folder + ": tensors do not fit its config.json", "config.json makes it");
  for (const layout::ParameterSpec& parameter : parameter_specs(spec)) {
    std::vector<ForeignPart> parts = hugging_face_parts(spec, parameter);
    if (parts.empty()) continue;
    for (const ForeignPart& part : parts) check.compare(part.name, part.shape, find_info(directory_, part.name));
    tensors_.emplace(parameter.name, Tensor{parameter.shape, std::move(parts)});
  }
  for (const std::string& name : directory_.names()) {
    if (name.ends_with(".rotary_emb.inv_freq")) check.allow(name);
  }
  check.refuse_others(directory_.names());
  check.finish();
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
  visit_parts(ours.shape, ours.parts, part, [&](const ForeignPart& foreign, const layout::Rectangle& inside) {
    directory_.read(foreign.name, inside, dtype, out);
    out += static_cast<std::size_t>(inside.count()) * core::size_of(dtype);
  });
}

}  // namespace caravan::family
