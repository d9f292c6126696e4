// SPDX-License-Identifier: Apache-2.0
#include "family/peft_source.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>

#include "core/error.hpp"
#include "family/parameters.hpp"
#include "io/copy_converted.hpp"

namespace caravan::family {
namespace {

namespace fs = std::filesystem;
io::SafetensorsFile open_factors(const fs::path& folder) {
  const fs::path file = folder / "adapter_model.safetensors";
  if (!fs::exists(file) && fs::exists(folder / "adapter_model.bin")) {
    core::bad_input(folder.string(),
                    ": the adapter is in adapter_model.bin only, a format that can run code when it is read; convert "
                    "it with PEFT's save_pretrained(safe_serialization=True)");
  }
  return io::SafetensorsFile(file);
}

// Files written before peft 0.3 name the adapter inside the tensor's name.
std::string with_adapter_name(std::string name) { return name.insert(name.rfind('.'), ".default"); }

}  // namespace

PeftSource::PeftSource(const PeftAdapter& adapter, const ModelSpec& spec) : folder_(adapter.folder) {
  if (adapter.lora) factors_.emplace(open_factors(folder_));
  if (adapter.pesc) mixture_.emplace(fs::path(folder_) / peft_mixture_folder);
  TensorCheck check(folder_ + ": tensors do not fit the adapter's configuration and the base",
                    "the configurations make it");
  for (const layout::ParameterSpec& parameter : parameter_specs(spec)) {
    if (!parameter.trainable) continue;
    // Of what the specification can train, LoRA factors alone have no name in a model folder.
    if (hugging_face_parts(spec, parameter).empty()) {
      add_factor(parameter, check);
    } else if (mixture_) {
      add_mixture(spec, parameter, check);
    }
  }
  if (factors_) check.refuse_others(factors_->names());
  if (mixture_) check.refuse_others(mixture_->names());
  check.finish();
}

void PeftSource::add_factor(const layout::ParameterSpec& parameter, TensorCheck& check) {
  const std::string plain = peft_name(parameter.name), named = with_adapter_name(plain);
  const std::string& name = factors_->contains(named) ? named : plain;
  if (name == named && factors_->contains(plain)) {
    check.complain(core::concat(plain, " is there twice, also as ", named));
    check.allow(plain);
  }
  check.compare(name, parameter.shape, find_info(*factors_, name));
  tensors_.emplace(parameter.name, Tensor{parameter.shape, name, {}});
}

void PeftSource::add_mixture(const ModelSpec& spec, const layout::ParameterSpec& parameter, TensorCheck& check) {
  std::vector<ForeignPart> parts = hugging_face_parts(spec, parameter);
  for (const ForeignPart& part : parts) check.compare(part.name, part.shape, find_info(*mixture_, part.name));
  tensors_.emplace(parameter.name, Tensor{parameter.shape, "", std::move(parts)});
}

const PeftSource::Tensor& PeftSource::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) core::bad_input(where(), ": there is no tensor ", name);
  return found->second;
}

layout::TensorSource::Info PeftSource::info(const std::string& name) const {
  const Tensor& ours = tensor(name);
  const layout::TensorSource::Info stored =
      ours.parts.empty() ? factors_->info(ours.factor) : mixture_->info(ours.parts.front().name);
  return {ours.shape, stored.dtype};
}

void PeftSource::read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const {
  const Tensor& ours = tensor(name);
  std::vector<float> values;
  auto* out = static_cast<std::byte*>(target);
  const auto hand_over = [&](const std::string& file, const std::string& foreign) {
    if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
      core::bad_input(file, ": ", foreign, " holds NaN or infinity; take an adapter of an earlier step");
    }
    core::convert(values.data(), core::DType::f32, out, dtype, values.size());
    out += values.size() * core::size_of(dtype);
  };
  if (part.count() == 0) return;
  if (ours.parts.empty()) {
    values.resize(static_cast<std::size_t>(part.count()));
    io::copy_converted(part, layout::whole(ours.shape), factors_->data(ours.factor), factors_->info(ours.factor).dtype,
                       part, values.data(), core::DType::f32);
    hand_over(factors_->path().string(), ours.factor);
  }
  visit_parts(ours.shape, ours.parts, part, [&](const ForeignPart& foreign, const layout::Rectangle& inside) {
    values.resize(static_cast<std::size_t>(inside.count()));
    mixture_->read(foreign.name, inside, core::DType::f32, values.data());
    hand_over(mixture_->file_of(foreign.name).path().string(), foreign.name);
  });
}

}  // namespace caravan::family
