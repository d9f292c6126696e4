// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "family/model_spec.hpp"
#include "layout/parameter_spec.hpp"

namespace caravan::family {

/// A tensor of a Hugging Face file and the box of our tensor that it holds, both row-major with the same elements.
struct ForeignPart {
  std::string name;
  layout::Shape shape;      // in the file: without the expert dimension
  layout::Rectangle place;  // in ours
};

/// The foreign tensors that make up one of ours. A layer's experts are one tensor here and
/// "…experts.expert_{e}.adapter_down.weight" [D, H] there (the official Camelidae class; Sparsetral's names lack
/// "expert_"); everything else has one name. Empty for LoRA factors: a model folder holds none.
std::vector<ForeignPart> hugging_face_parts(const ModelSpec& spec, const layout::ParameterSpec& parameter);

/// Calls visit(foreign, inside) for each foreign tensor that holds something of `part` of ours; `inside` is the box of
/// the foreign tensor to read. The boxes, one behind the other, are `part` in row-major order. shape: of our tensor.
void visit_parts(const layout::Shape& shape, const std::vector<ForeignPart>& parts, const layout::Rectangle& part,
                 const std::function<void(const ForeignPart&, const layout::Rectangle& inside)>& visit);

}  // namespace caravan::family
