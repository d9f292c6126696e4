// SPDX-License-Identifier: Apache-2.0
#include "family/foreign_names.hpp"

#include <string_view>

#include "core/error.hpp"
#include "family/families.hpp"

namespace caravan::family {
namespace {

constexpr std::string_view experts_mark = ".moe_adapter.experts.";

bool is_lora(const std::string& name) {
  return name.find(".lora_A.") != std::string::npos || name.find(".lora_B.") != std::string::npos;
}

}  // namespace

std::vector<ForeignPart> hugging_face_parts(const ModelSpec& spec, const layout::ParameterSpec& parameter) {
  if (is_lora(parameter.name)) return {};
  const std::size_t mark = parameter.name.find(experts_mark);
  if (mark == std::string::npos) return {{parameter.name, parameter.shape, layout::whole(parameter.shape)}};
  const std::string before =
      parameter.name.substr(0, mark + experts_mark.size()) + family_of(spec.model_type).expert_prefix;
  const std::string after = parameter.name.substr(mark + experts_mark.size());
  const layout::Shape one(parameter.shape.begin() + 1, parameter.shape.end());
  std::vector<ForeignPart> parts;
  for (std::int64_t e = 0; e < parameter.shape[0]; ++e) {
    layout::Rectangle place = layout::whole(parameter.shape);
    place.offset[0] = e;
    place.extent[0] = 1;
    parts.push_back({core::concat(before, e, ".", after), one, place});
  }
  return parts;
}

void visit_parts(const layout::Shape& shape, const std::vector<ForeignPart>& parts, const layout::Rectangle& part,
                 const std::function<void(const ForeignPart&, const layout::Rectangle& inside)>& visit) {
  for (const ForeignPart& foreign : parts) {
    const auto box = layout::intersect(part, foreign.place);
    if (!box) continue;
    // A foreign tensor is whole, or one index of our first dimension, so boxes follow each other without gaps.
    layout::Rectangle inside = *box;
    if (foreign.shape.size() < shape.size()) {
      inside.offset.erase(inside.offset.begin());
      inside.extent.erase(inside.extent.begin());
    }
    visit(foreign, inside);
  }
}

}  // namespace caravan::family
