// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "config/config.hpp"
#include "core/error.hpp"

namespace caravan::config {
namespace {

class Complaints {
 public:
  explicit Complaints(const Config& config) : file_(config.file) {}

  void add(const std::string& text) { message_ += (message_.empty() ? "" : "\n") + text; }

  void need(const std::string& value, std::string_view section, std::string_view key, std::string_view why) {
    if (!value.empty()) return;
    add(core::concat(section, ".", key, " is not set (", why,
                     "): ", file_.empty() ? "" : core::concat("set [", section, "] ", key, "=… in ", file_, " or "),
                     "pass --", section, ".", key, "=…"));
  }

  void end() const {
    if (!message_.empty()) throw core::Error(core::ExitCode::bad_input, message_);
  }

 private:
  std::string file_;
  std::string message_;
};

void check_upcycle(const Config& config, Complaints& complaints) {
  complaints.need(config.model.base, "model", "base", "the dense model");
  if (config.model.store.empty()) complaints.need(config.run.folder, "run", "folder", "where the checkpoint goes");
  if (config.upcycle.topk > config.upcycle.experts) {
    complaints.add(
        core::concat("upcycle.topk = ", config.upcycle.topk, " exceeds upcycle.experts = ", config.upcycle.experts));
  }
}

void check_prepare(const Config& config, Complaints& complaints) {
  complaints.need(config.data.source, "data", "source", "the instructions");
  complaints.need(config.data.packed, "data", "packed", "the file to write");
  if (config.data.tokenizer.empty()) complaints.need(config.model.base, "model", "base", "the tokenizer's folder");
}

void check_train(const Config& config, Complaints& complaints) {
  complaints.need(config.run.folder, "run", "folder", "where checkpoints go");
  complaints.need(config.data.packed, "data", "packed", "the packed tokens, from prepare");
  if (config.train.batch % config.train.micro_batch != 0) {
    complaints.add(core::concat("train.batch = ", config.train.batch,
                                " is no multiple of train.micro_batch = ", config.train.micro_batch));
  }
  if (config.checkpoint.keep_best && config.evaluate.every == 0) {
    complaints.add(
        "checkpoint.keep_best needs held-out losses: set evaluate.every, of which checkpoint.every should be "
        "a multiple, or checkpoint.keep_best = false");
  }
}

}  // namespace

void validate(const Config& config, const std::string& command) {
  Complaints complaints(config);
  if (command == "upcycle") check_upcycle(config, complaints);
  if (command == "prepare") check_prepare(config, complaints);
  if (command == "train") check_train(config, complaints);
  if (command == "evaluate") complaints.need(config.data.packed, "data", "packed", "the packed tokens, from prepare");
  const bool held_out_wanted = command == "evaluate" || (command == "train" && config.evaluate.every > 0);
  if (held_out_wanted && config.data.held_out_every == 0 && config.data.held_out.empty()) {
    complaints.add(
        "there is nothing to evaluate on: set data.held_out_every and run caravan prepare, or data.held_out");
  }
  if (command == "evaluate" || command == "export") {
    complaints.need(config.run.folder, "run", "folder", "where the checkpoints are");
  }
  const std::string& step = config.evaluate.step;
  if (step != "newest" &&
      (step.empty() || step.size() > 18 || step.find_first_not_of("0123456789") != std::string::npos)) {
    complaints.add("evaluate.step = " + step + " is neither newest nor a step");
  }
  complaints.end();
}

}  // namespace caravan::config
