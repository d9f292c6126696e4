// SPDX-License-Identifier: Apache-2.0
#include "data/instruction_source.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "data/source_kind.hpp"

namespace caravan::data {
namespace {

using nlohmann::json;

constexpr std::int64_t warnings_shown = 10;

/// A record that parses as JSON but does not mean what it should; the message starts with the field.
struct WrongField : std::runtime_error {
  using std::runtime_error::runtime_error;
};

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

std::int64_t count_lines(std::string_view text) {
  return static_cast<std::int64_t>(std::count(text.begin(), text.end(), '\n'));
}

/// The library's message without its own position and without the text last read, which may be a whole record.
std::string reason_of(const json::parse_error& error) {
  std::string message = error.what();
  if (const auto start = message.find(": "); start != std::string::npos) message.erase(0, start + 2);
  if (const auto read = message.find("; last read:"); read != std::string::npos) message.erase(read);
  // What it says of the byte is no help to who has many records of the kind.
  if (message.find("UTF-8") != std::string::npos) {
    message += "; if the whole file is in another encoding, write it in UTF-8 (iconv -f LATIN1 -t UTF-8)";
  }
  return message;
}

/// Table libraries write null for what a record does not have.
enum class Absent { refused, empty, empty_if_null };

std::string text_field(const json& object, const char* name, const std::string& where, Absent absent) {
  const auto found = object.find(name);
  const bool null = found != object.end() && found->is_null();
  if (null && absent != Absent::refused) return "";
  if (found == object.end()) {
    if (absent != Absent::empty) throw WrongField(where + name + " is missing");
    return "";
  }
  if (!found->is_string()) throw WrongField(where + name + " must be a text, not " + found->type_name());
  return found->get<std::string>();
}

const std::string& a_file(const std::string& path) {
  if (std::filesystem::is_directory(path)) {
    core::bad_input(path, ": is a folder; data.source names one file of instructions, a JSON array or JSON lines");
  }
  return path;
}

}  // namespace

InstructionSource::InstructionSource(const std::string& path, bool skip_damaged)
    : path_(path),
      file_(a_file(path)),
      text_(reinterpret_cast<const char*>(file_.data()), file_.size()),
      skip_damaged_(skip_damaged) {
  if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // byte order mark
  skip_space();
  if (at_ == text_.size()) {
    core::bad_input(path_, ": holds no records",
                    text_.empty() ? ": the file is empty; was a copy or download cut off?" : ", only white space");
  }
  if (const auto kind = foreign_kind(text_)) core::bad_input(path_, ": ", *kind);
  array_ = text_[at_] == '[';
  if (array_) ++at_;
  refuse_foreign_records();
}

/// The first two records tell whether the file is of another format: one alone may be damaged.
void InstructionSource::refuse_foreign_records() {
  const std::size_t start = at_;
  const std::int64_t line = line_;
  std::optional<std::string> kind;
  try {
    for (index_ = 0; index_ < 2 && !finished_; ++index_) {
      const std::string_view element = array_ ? next_element() : next_line();
      if (element.data() == nullptr) break;
      const Place place = array_ ? Place::in_array : index_ == 0 && finished_ ? Place::alone : Place::on_a_line;
      kind = foreign_records(element, place);
      if (!kind) break;
    }
  } catch (const core::Error&) {
    kind.reset();  // an array without an end, which is said where it is read
  }
  at_ = start;
  line_ = element_line_ = line;
  index_ = 0;
  finished_ = false;
  if (kind) core::bad_input(path_, ": ", *kind);
}

std::string InstructionSource::fingerprint() const { return core::checksum(text_.data(), text_.size()); }

void InstructionSource::refuse(std::int64_t line, const std::string& what) const {
  core::bad_input(path_, ":", line, ": ", what);
}

void InstructionSource::skip_space() {
  for (; at_ < text_.size() && is_space(text_[at_]); ++at_) line_ += text_[at_] == '\n';
}

/// The next element of the array, without the comma or bracket behind it, which is consumed. Where an element ends
/// needs only strings and nesting; whether it is JSON is for the parser to say.
std::string_view InstructionSource::next_element() {
  skip_space();
  element_line_ = line_;
  const std::size_t begin = at_;
  if (index_ == 0 && at_ < text_.size() && text_[at_] == ']') {
    finished_ = true;
    ++at_;
    return {};
  }
  std::int64_t depth = 0;
  bool quoted = false;
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '\n') ++line_;
    if (quoted) {
      if (c == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n') {
        ++at_;
      } else if (c == '"') {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (depth > 0 && (c == '}' || c == ']')) {
      --depth;
    } else if (depth == 0 && (c == ',' || c == ']')) {
      finished_ = c == ']';
      return text_.substr(begin, at_++ - begin);
    }
  }
  finished_ = true;
  refuse(element_line_, "the array has no end: a \"]\" is missing, or the file was cut off in this record");
}

std::string_view InstructionSource::next_line() {
  skip_space();
  element_line_ = line_;
  const std::size_t begin = at_;
  at_ = std::min(text_.find('\n', at_), text_.size());
  finished_ = at_ == text_.size() || text_.find_first_not_of(" \t\r\n", at_) == std::string_view::npos;
  return text_.substr(begin, at_ - begin);
}

void InstructionSource::parse(std::string_view element, Record& record) const {
  json object;
  try {
    object = core::parse_json(element);
  } catch (const json::parse_error& error) {
    const auto read = element.substr(0, std::min(element.size(), error.byte > 0 ? error.byte - 1 : 0));
    const std::string_view around = element.substr(read.size() - std::min<std::size_t>(read.size(), 1));
    const bool nan =
        around.starts_with("NaN") || around.substr(std::min<std::size_t>(around.size(), 1)).starts_with("NaN");
    refuse(element_line_ + count_lines(read),
           "not JSON: " + reason_of(error) + (nan ? "; NaN is no value of JSON: write null for what is absent" : ""));
  }
  record = Record{};
  record.index = index_;
  record.line = element_line_;
  try {
    if (!object.is_object()) throw WrongField(std::string("the record must be an object, not ") + object.type_name());
    record.corpus = text_field(object, "corpus", "", Absent::empty);
    record.dataset = text_field(object, "dataset", "", Absent::empty);
    const auto turns = object.find("conversation");
    if (!record.corpus.empty()) {
      if (turns != object.end() && !turns->empty()) {
        throw WrongField("conversation must be empty in a record with a corpus");
      }
      return;
    }
    record.instruction = text_field(object, "instruction", "", Absent::empty_if_null);
    if (turns == object.end() || turns->is_null()) throw WrongField("conversation is missing");
    if (!turns->is_array()) throw WrongField(std::string("conversation must be an array, not ") + turns->type_name());
    if (turns->empty()) throw WrongField("conversation is empty, and so is corpus");
    for (std::size_t i = 0; i < turns->size(); ++i) {
      const json& turn = turns->at(i);
      const std::string where = "conversation[" + std::to_string(i) + "]";
      if (!turn.is_object()) throw WrongField(where + " must be an object, not " + turn.type_name());
      record.turns.push_back({text_field(turn, "input", where + ".", Absent::refused),
                              text_field(turn, "output", where + ".", Absent::refused)});
      if (record.turns.back().output.empty()) throw WrongField(where + ".output is empty: nothing to learn");
    }
  } catch (const WrongField& wrong) {
    refuse(element_line_, wrong.what());
  }
}

void InstructionSource::check_end() {
  const auto rest = text_.find_first_not_of(" \t\r\n", at_);
  if (!array_ || rest == std::string_view::npos) return;
  const std::int64_t line = line_ + count_lines(text_.substr(at_, rest - at_));
  at_ = text_.size();
  if (text_[rest] == '[') {
    refuse(line,
           "another array begins behind the first one; make one array of all, or JSON lines of records (jq -c '.[]')");
  }
  const std::string what = "text after the end of the array";
  if (!skip_damaged_) refuse(line, what);
  core::log_warning(core::concat(path_, ":", line, ": ", what, "; ignored"));
}

bool InstructionSource::next(Record& record) {
  while (!finished_) {
    try {
      const std::string_view element = array_ ? next_element() : next_line();
      if (element.data() == nullptr) break;  // an array without elements
      parse(element, record);
      ++index_;
      return true;
    } catch (const core::Error& error) {
      if (!skip_damaged_) {
        core::bad_input(error.what(), "; correct the record, or leave such records out with data.on_error = skip");
      }
      ++index_;
      if (++damaged_ <= warnings_shown) core::log_warning(std::string(error.what()) + "; left out");
      if (damaged_ == warnings_shown) core::log_warning("further damaged records are only counted");
    }
  }
  check_end();
  return false;
}

}  // namespace caravan::data
