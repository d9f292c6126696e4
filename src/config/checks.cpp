// SPDX-License-Identifier: Apache-2.0
#include "config/config.hpp"

namespace caravan::config {

void check_upcycle(const Config& config, core::Complaints& complaints) {
  config.model.need_base(complaints, "the dense model");
  if (config.model.store.empty()) config.run.need_folder(complaints);
  config.upcycle.check(complaints);
}

void check_prepare(const Config& config, core::Complaints& complaints) {
  config.data.need_source(complaints);
  if (config.data.tokenizer.empty()) config.model.need_base(complaints, "the tokenizer's folder");
}

void check_train(const Config& config, core::Complaints& complaints) {
  config.data.need_packed(complaints);
  config.train.check(complaints);
  config.checkpoint.check(complaints);
  if (config.checkpoint.keep_best && config.evaluate.every == 0) {
    complaints.add(
        "checkpoint.keep_best needs held-out losses: set evaluate.every, of which checkpoint.every should be "
        "a multiple, or checkpoint.keep_best = false");
  }
  if (config.evaluate.every > 0) config.data.need_held_out(complaints);
}

void check_evaluate(const Config& config, core::Complaints& complaints) {
  config.data.need_packed(complaints);
  config.data.need_held_out(complaints);
  config.checkpoint.check(complaints);
}

void check_export(const Config& config, core::Complaints& complaints) {
  config.checkpoint.check(complaints);
  config.export_.check(complaints);
}

}  // namespace caravan::config
