// SPDX-License-Identifier: Apache-2.0
#include "family/hugging_face_source.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "core/error.hpp"
#include "family/parameters.hpp"
#include "family/tensor_check.hpp"
#include "io/copy_converted.hpp"

namespace caravan::family {
namespace {

constexpr const char* embedding = "model.embed_tokens.weight";
constexpr const char* head = "lm_head.weight";

/// The head of a model whose head is its embedding: some files have it, too. Nothing is read from it, so it must say
/// the same.
void require_equal_head(const io::SafetensorsDirectory& files, TensorCheck& check) {
  const layout::TensorSource::Info wanted = files.info(embedding), found = files.info(head);
  check.compare(head, wanted.shape, found);
  if (found.shape != wanted.shape || wanted.shape.size() != 2) return;
  if (!io::convertible(wanted.dtype, core::DType::f32) || !io::convertible(found.dtype, core::DType::f32)) return;
  constexpr std::int64_t most = std::int64_t{1} << 22;  // elements at a time
  const std::int64_t height = wanted.shape[0], width = wanted.shape[1];
  const std::int64_t step = std::max<std::int64_t>(1, most / std::max<std::int64_t>(1, width));
  std::vector<float> values, others;
  for (std::int64_t row = 0; row < height; row += step) {
    const layout::Rectangle rows{{row, 0}, {std::min(step, height - row), width}};
    for (const auto& [name, target] : {std::pair{embedding, &values}, std::pair{head, &others}}) {
      target->resize(static_cast<std::size_t>(rows.count()));
      files.read(name, rows, core::DType::f32, target->data());
    }
    // As bits, so that even what is not a number compares.
    if (std::memcmp(values.data(), others.data(), values.size() * sizeof(float)) == 0) continue;
    check.complain(core::concat(head, " differs from ", embedding, " in rows ", row, " to ", row + rows.extent[0] - 1,
                                ", but tie_word_embeddings says that they are one; set it to false in config.json if "
                                "the head has values of its own, or remove the tensor"));
    return;
  }
}

}  // namespace

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
  if (spec.tied_embeddings && directory_.contains(head) && directory_.contains(embedding)) {
    require_equal_head(directory_, check);
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
