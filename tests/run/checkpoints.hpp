// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint/retention.hpp"
#include "checkpoint/save.hpp"
#include "tests/checkpoint/saved.hpp"

namespace caravan::test {

/// A committed checkpoint of one tensor and one shard. `store`: whose frozen tensors it goes with; none: it has its
/// own.
inline void save_step(const std::filesystem::path& checkpoints, std::int64_t step, const std::string& store = "",
                      const nlohmann::json& state = nlohmann::json::object()) {
  const auto world = comm::make_serial_communicator("test");
  checkpoint::SaveRequest request{.folder = checkpoint::step_folder(checkpoints, step), .step = step, .state = state};
  request.program = "caravan 0.test";
  if (!store.empty()) request.store = checkpoint::StoreReference{"../step-00000000", store};
  const layout::Shape shape{2, 3};
  checkpoint::save(*world, request, {piece_of("w", shape, core::DType::f32, layout::whole(shape))});
}

/// So that a start passes it over.
inline void damage_step(const std::filesystem::path& checkpoints, std::int64_t step) {
  std::filesystem::resize_file(checkpoint::step_folder(checkpoints, step) / "shard-00000.h5", 100);
}

}  // namespace caravan::test
