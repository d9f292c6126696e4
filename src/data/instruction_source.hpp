// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "data/record.hpp"
#include "io/mapped_file.hpp"

namespace caravan::data {

/// Reads a file in the official instruction format: one JSON array of records, or JSON lines (one record per line,
/// blank lines allowed). A record is {"corpus": text, "dataset": text, "instruction": text, "conversation": [{"input":
/// text, "output": text}, …]}; either corpus or conversation is not empty, corpus and dataset may be missing, other
/// fields are ignored. corpus, dataset, instruction and, beside a corpus, conversation may be null. The file is mapped
/// and parsed one record at a time, so memory is bounded by the largest record.
class InstructionSource {
 public:
  /// Throws (exit 2), saying what the file seems to be, when it is no list of such records at all (see
  /// source_kind.hpp). skip_damaged: a record that cannot be used is counted and warned about; otherwise it throws
  /// (exit 2) with file:line (the line where the record begins, for JSON errors that of the error) and field.
  InstructionSource(const std::string& path, bool skip_damaged);

  /// The next usable record; false at the end of the file.
  bool next(Record& record);

  /// Records left out so far because they were damaged.
  std::int64_t damaged() const { return damaged_; }
  /// Records seen so far, damaged ones included.
  std::int64_t seen() const { return index_; }
  /// Bytes read so far, of bytes().
  std::size_t position() const { return at_; }
  std::size_t bytes() const { return text_.size(); }
  /// XXH3-64 of the file, 16 hexadecimal digits. Reads it whole.
  std::string fingerprint() const;

 private:
  std::string_view next_element();
  std::string_view next_line();
  void skip_space();
  void check_end();
  void refuse_foreign_records();
  void parse(std::string_view element, Record& record) const;
  [[noreturn]] void refuse(std::int64_t line, const std::string& what) const;

  std::string path_;
  io::MappedFile file_;
  std::string_view text_;
  bool skip_damaged_;
  bool array_ = false, finished_ = false;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;          // of at_
  std::int64_t element_line_ = 1;  // of the element that next_element or next_line returned
  std::int64_t index_ = 0, damaged_ = 0;
};

}  // namespace caravan::data
