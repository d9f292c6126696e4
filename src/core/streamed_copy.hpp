// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace caravan::core {

/// memcpy, where the processor can do so with stores that pass its caches by: for a target that nobody reads soon.
/// Memory is then read once and written once; ordinary stores read the target as well, and drive out what the caches
/// hold. The two must not overlap. What was written is seen by threads that this one tells of it, as after memcpy.
void streamed_copy(void* target, const void* source, std::size_t bytes);

}  // namespace caravan::core
