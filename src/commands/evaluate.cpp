// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "comm/agreement.hpp"
#include "comm/start_watchdog.hpp"
#include "commands/open_packed.hpp"
#include "commands/run_tokenizer.hpp"
#include "core/build_facts.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "evaluate/end_tokens.hpp"
#include "evaluate/generation.hpp"
#include "evaluate/held_out.hpp"
#include "io/atomic_file.hpp"

namespace caravan::commands {
namespace {

/// The held-out document whose prompt and answer are shown: the first one.
struct Example {
  std::vector<std::int32_t> prompt, answer;
};
Example first_example(const data::PackedFile& file) {
  Example example;
  const std::uint64_t end = file.document_starts()[1];
  for (std::uint64_t t = 0; t < end; ++t) {
    const bool answered = file.labelled()[t] != 0;
    if (!answered && !example.answer.empty()) break;
    (answered ? example.answer : example.prompt).push_back(file.tokens()[t]);
  }
  return example;
}

void show(const std::string& title, const std::string& text) {
  core::log(title);
  core::log("    ", text);
}

}  // namespace

int evaluate(const Session& session) {
  const config::Config& config = session.config;
  const auto watchdog =
      comm::start_watchdog_beside(session.world, session.run().watchdog_of("evaluate"), config.watchdog.seconds);
  const Start start = open_chosen(session);
  const data::PackedFile held_out = std::move(open_packed(session, {data::held_out_path(config.data)}).front());
  std::unique_ptr<data::Tokenizer> tokenizer;
  std::vector<std::int32_t> ends;
  comm::on_all_ranks(session.world, [&] {
    tokenizer = open_run_tokenizer(session, start);
    require_same_tokens(held_out, *tokenizer, start);
    ends = evaluate::end_tokens(start.store, tokenizer->eos_id());
  });
  Model model(session, start);
  load_trainable(session, model, *start.reader);

  core::log("evaluating ", start.folder.string(), " (step ", start.reader->step(), ") on ", model.grid.describe(),
            ", in ", core::spelling(config.train.precision));
  const auto go_on = [&] {
    end_if_asked(session);
    return false;
  };
  const evaluate::HeldOutLoss loss = *evaluate::held_out_loss(
      model.context, *model.decoder, held_out, {config.evaluate.samples, config.train.micro_batch, go_on});
  core::log("held-out response loss ", loss.loss, " (", loss.sequences, " samples, ", loss.targets,
            " response tokens of ", held_out.path(), ")");

  const Example example = first_example(held_out);
  const std::vector<std::int32_t> answer = evaluate::generate_greedily(model.context, *model.decoder, example.prompt,
                                                                       config.evaluate.answer_tokens, ends, go_on);
  show("a held-out prompt:", tokenizer->decode(example.prompt, true));
  show("its answer in the data:", tokenizer->decode(example.answer, true));
  const std::string text = tokenizer->decode(answer, true);
  show("the model's, greedily:", text);
  const auto unknown =
      std::count_if(answer.begin(), answer.end(), [&](std::int32_t id) { return !tokenizer->has_text(id); });
  if (unknown > 0) {
    core::log("    (without ", unknown, " of its ", answer.size(), " tokens, which have no text in ", tokenizer->path(),
              ")");
  }

  comm::on_all_ranks(session.world, [&] {
    if (!session.first()) return;
    const nlohmann::json report{{"step", start.reader->step()},
                                {"loss", loss.loss},
                                {"response_tokens", loss.targets},
                                {"samples", loss.sequences},
                                {"held_out", held_out.content()},
                                {"precision", std::string(core::spelling(config.train.precision))},
                                {"answer", text},
                                {"program", core::build_facts_text()}};
    std::filesystem::create_directories(session.run_folder());
    io::write_file_atomically(session.run().evaluation(start.reader->step()), core::json_text(report, 1) + "\n");
  });
  return 0;
}

}  // namespace caravan::commands
