// SPDX-License-Identifier: Apache-2.0
#include "convert/base_tensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdio>
#include <string>

#include "core/error.hpp"
#include "core/finite.hpp"
#include "core/random.hpp"
#include "family/hugging_face_source.hpp"
#include "family/parameters.hpp"
#include "family/peft_source.hpp"

namespace caravan::convert {

void read_finite(const layout::TensorSource& source, const layout::ParameterSpec& parameter,
                 const layout::Rectangle& rows, void* out) {
  source.read(parameter.name, rows, parameter.storage, out);
  const std::int64_t at = core::first_not_finite(out, parameter.storage, rows.count());
  if (at < 0) return;
  const core::DType stored = source.info(parameter.name).dtype;
  const std::int64_t width = rows.count() / rows.extent[0];
  core::bad_input(source.where(), ": ", parameter.name, " holds NaN or infinity in row ", rows.offset[0] + at / width,
                  ", element ", at % width,
                  stored == parameter.storage
                      ? std::string("; the file is damaged")
                      : core::concat(", as ", core::name_of(parameter.storage), " (the file holds ",
                                     core::name_of(stored), "; set torch_dtype in config.json accordingly)"));
}

std::uint64_t base_fingerprint(const layout::TensorSource& source,
                               const std::vector<layout::ParameterSpec>& parameters) {
  constexpr std::int64_t most = 64;
  std::string text;
  for (const layout::ParameterSpec& parameter : parameters) {
    if (!source.contains(parameter.name)) continue;  // made anew
    const auto info = source.info(parameter.name);
    text += core::concat(parameter.name, layout::to_string(info.shape), core::name_of(info.dtype));
    for (const std::int64_t row : {std::int64_t{0}, info.shape[0] - 1}) {
      layout::Rectangle part = layout::rows_of(layout::whole(info.shape), {row, row + 1});
      for (std::size_t d = 1; d + 1 < part.extent.size(); ++d) part.extent[d] = 1;
      part.extent.back() = std::min(part.extent.back(), most);
      std::array<float, most> values{};
      source.read(parameter.name, part, core::DType::f32, values.data());
      text.append(reinterpret_cast<const char*>(values.data()), sizeof values);
    }
  }
  return core::hash_name(text.data(), text.size());
}

std::string base_fingerprint_text(const layout::TensorSource& source,
                                  const std::vector<layout::ParameterSpec>& parameters) {
  char fingerprint[17];
  std::snprintf(fingerprint, sizeof fingerprint, "%016llx",
                static_cast<unsigned long long>(base_fingerprint(source, parameters)));
  return fingerprint;
}

std::string fingerprint_of_folders(const std::string& base, const std::string& adapter,
                                   const family::ModelSpec& crafted) {
  const family::ModelSpec spec = family::read_model_spec(base, crafted.rotary.theta);
  const family::HuggingFaceSource files(base, spec);
  const std::vector<layout::ParameterSpec> parameters = family::parameter_specs(crafted);
  if (adapter.empty()) return base_fingerprint_text(files, parameters);
  const family::PeftAdapter added = family::read_peft_adapter(adapter);
  const family::AdaptedSource both(files, family::PeftSource(added, family::adapted(spec, added)));
  return base_fingerprint_text(both, parameters);
}

}  // namespace caravan::convert
