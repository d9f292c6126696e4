// SPDX-License-Identifier: Apache-2.0
#include "data/prepare.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "core/error.hpp"
#include "core/log.hpp"
#include "core/stop_request.hpp"
#include "core/text.hpp"
#include "data/instruction_source.hpp"
#include "data/packed_file.hpp"
#include "data/template.hpp"
#include "data/tokenizer.hpp"
#include "io/atomic_file.hpp"

namespace caravan::data {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

bool same_file(const std::string& a, const std::string& b) {
  return fs::weakly_canonical(a) == fs::weakly_canonical(b);
}

void check_options(const Options& options, std::int64_t sequence) {
  if (options.source.empty()) core::bad_input("data.source is not set; name a JSON or JSONL file of instructions");
  if (options.packed.empty()) core::bad_input("data.packed is not set; name the token file to write");
  if (sequence < 2) core::bad_input("train.sequence ", sequence, " leaves nothing to predict; use 2 or more");
  if (same_file(options.source, options.packed))
    core::bad_input("data.packed would overwrite data.source, ", options.source);
  if (options.held_out_every == 0) return;
  const std::string held_out = held_out_path(options);
  if (same_file(held_out, options.packed) || same_file(held_out, options.source)) {
    core::bad_input("data.held_out would overwrite ", held_out, ", which data.packed or data.source names");
  }
}

/// One line every ten seconds, with rate and remaining time.
class Progress {
 public:
  void show(const InstructionSource& source) {
    if (source.seen() % 256 != 0 || seconds_since(shown_) < 10) return;
    shown_ = Clock::now();
    const double share = static_cast<double>(source.position()) / static_cast<double>(source.bytes());
    const double elapsed = seconds_since(start_);
    core::log("prepare: ", source.seen(), " records, ", std::lround(100 * share), " %, ",
              std::lround(static_cast<double>(source.seen()) / elapsed), " records/s, ",
              core::format_duration(elapsed / share - elapsed), " left");
  }
  double seconds() const { return seconds_since(start_); }

 private:
  Clock::time_point start_ = Clock::now(), shown_ = start_;
};

std::string rows_of(const PrepareBase& base) {
  return core::concat("the model in ", base.folder, " has ", *base.vocabulary, " tokens (vocab_size)");
}

/// The tokens that every document has must be the model's: else each record would be refused.
void check_named_tokens(const Tokenizer& tokenizer, const PrepareBase& base) {
  if (!base.vocabulary) return;
  for (const auto& [role, token] :
       {std::pair{"bos_token", tokenizer.facts().bos}, std::pair{"eos_token", tokenizer.facts().eos}}) {
    if (token.id < *base.vocabulary) continue;
    core::bad_input(tokenizer.path(), ": ", role, " \"", token.text, "\" has the id ", token.id, ", but ",
                    rows_of(base), "; set data.tokenizer to the model's own tokenizer, or enlarge the model");
  }
  std::vector<AddedToken> beyond = tokenizer.facts().added;
  std::erase_if(beyond, [&](const AddedToken& token) { return token.id < *base.vocabulary; });
  if (beyond.empty()) return;
  core::log_warning(core::concat(beyond.front().origin, ": \"", beyond.front().content, "\" has the id ",
                                 beyond.front().id, beyond.size() > 1 ? ", and others follow" : "", ", but ",
                                 rows_of(base), "; a record that has such a token is refused"));
}

void check_ids(const Document& document, const Tokenizer& tokenizer, const PrepareBase& base,
               const std::string& where) {
  if (!base.vocabulary) return;
  const std::int32_t largest = *std::max_element(document.tokens.begin(), document.tokens.end());
  if (largest < *base.vocabulary) return;
  core::bad_input(where, ": a token of this record, \"", tokenizer.decode(std::array{largest}, false),
                  "\", has the id ", largest, ", but ", rows_of(base),
                  "; set data.tokenizer to the model's own tokenizer, or enlarge the model");
}

/// An atomic file that is opened at once where its folder exists, else when it is first asked for.
class OutputFile {
 public:
  explicit OutputFile(fs::path path) : path_(std::move(path)) {
    if (!path_.has_parent_path() || fs::exists(path_.parent_path())) file_.emplace(path_);
  }
  io::AtomicFile& open() {
    if (!file_) {
      fs::create_directories(path_.parent_path());
      file_.emplace(path_);
    }
    return *file_;
  }

 private:
  fs::path path_;
  std::optional<io::AtomicFile> file_;
};

PreparedPart part_of(const std::string& path, const PackedWriter& writer) {
  return {path, writer.documents(), writer.sequences(), writer.tokens(), writer.labelled()};
}

}  // namespace

PrepareReport prepare(const Options& options, std::int64_t sequence, const PrepareBase& base,
                      const std::string& program) {
  Progress progress;
  check_options(options, sequence);
  const std::unique_ptr<Tokenizer> opened = open_tokenizer(tokenizer_path(options, base.folder));
  const Tokenizer& tokenizer = *opened;
  tokenizer.log_warnings();
  check_named_tokens(tokenizer, base);
  const Template form(tokenizer, options.prompt_template, sequence, options.max_prompt);
  InstructionSource source(options.source, options.on_error == OnError::skip);
  const bool hold_out = options.held_out_every > 0;
  // Opened before the work, so that a folder that cannot be written is known at once; a missing folder is made after
  // it, so that an error leaves nothing behind.
  OutputFile train_file(options.packed);
  std::optional<OutputFile> held_out_file;
  if (hold_out) held_out_file.emplace(held_out_path(options));

  PackedMetadata metadata{std::string(core::spelling(options.prompt_template)),
                          std::string(core::spelling(options.packing)),
                          sequence,
                          tokenizer.fingerprint(),
                          tokenizer.vocabulary(),
                          fs::path(options.source).filename().string(),
                          source.fingerprint(),
                          "train",
                          options.held_out_every,
                          program,
                          options.max_prompt,
                          source.bytes(),
                          tokenizer.identity()};
  PackedWriter train(metadata);
  metadata.part = "held_out";
  PackedWriter held_out(metadata);

  PrepareReport report;
  Record record;
  while (source.next(record)) {
    core::StopRequest::check();
    const Rendered rendered = form.render(record);
    progress.show(source);
    report.many_turns += rendered.dropped == Dropped::many_turns;
    report.long_prompt += rendered.dropped == Dropped::long_prompt;
    report.no_label += rendered.dropped == Dropped::no_label;
    if (rendered.dropped != Dropped::no) continue;
    report.cut += rendered.cut;
    report.unlabelled += rendered.document.targets() == 0;
    check_ids(rendered.document, tokenizer, base, core::concat(options.source, ":", record.line));
    PackedWriter& writer = hold_out && record.index % options.held_out_every == 0 ? held_out : train;
    writer.add(rendered.document);
  }
  report.records = source.seen();
  if (report.records == 0) core::bad_input(options.source, ": holds no records: its array is empty");
  report.damaged = source.damaged();
  report.train = part_of(options.packed, train);
  if (hold_out) report.held_out = part_of(held_out_path(options), held_out);
  report.seconds = progress.seconds();
  if (train.documents() == 0 || (hold_out && held_out.documents() == 0)) {
    std::string lines;
    for (const auto& line : report.lines()) lines += "\n  " + line;
    core::bad_input(options.source, ": no record is left for the ", train.documents() == 0 ? "training" : "held-out",
                    " file; look at train.sequence, data.max_prompt and data.held_out_every", lines);
  }
  train.write(train_file.open());
  if (held_out_file) {
    held_out.write(held_out_file->open());
    held_out_file->open().commit();
  }
  train_file.open().commit();
  report.seconds = progress.seconds();
  return report;
}

std::vector<std::string> PrepareReport::lines() const {
  std::vector<std::string> lines{core::concat(records, " records in ", core::format_duration(seconds))};
  const auto count = [&](std::int64_t number, const char* what) {
    if (number > 0) lines.push_back(core::concat(number, " ", what));
  };
  count(damaged, "left out: damaged");
  count(many_turns, "left out: more than one turn, which idae_official drops");
  count(long_prompt, "left out: the prompt is longer than data.max_prompt");
  count(no_label, "left out: the prompt fills the sequence");
  count(unlabelled, "kept without a label: the prompt fills the sequence");
  count(cut, "cut at train.sequence: their end is lost");
  for (const auto& [name, part] : {std::pair{"training", &train}, std::pair{"held out", &held_out}}) {
    if (part->path.empty()) continue;
    lines.push_back(core::concat(name, ": ", part->documents, " documents in ", part->sequences, " sequences, ",
                                 part->tokens, " tokens, ", part->labelled, " labelled: ", part->path));
  }
  return lines;
}

}  // namespace caravan::data
