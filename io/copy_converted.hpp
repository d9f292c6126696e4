// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/dtype.hpp"
#include "layout/rectangle.hpp"

namespace caravan::io {

/// layout::copy_part with a change of element type. Equal types are copied, whatever they are; different ones must be
/// floating types (exit 70 otherwise). source_data needs no alignment: it may point into a mapped file. The memory
/// used beside the arrays is bounded by one row (an index along dimension 0) of `part` or 4 MiB, the larger.
void copy_converted(const layout::Rectangle& part, const layout::Rectangle& source, const void* source_data,
                    core::DType source_type, const layout::Rectangle& target, void* target_data,
                    core::DType target_type);

/// Whether elements can change between the types: equal, or both floating.
bool convertible(core::DType from, core::DType to);

}  // namespace caravan::io
