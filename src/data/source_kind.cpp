// SPDX-License-Identifier: Apache-2.0
#include "data/source_kind.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/text.hpp"
#include "data/json_outline.hpp"

namespace caravan::data {
namespace {

using namespace std::string_view_literals;
using Kind = JsonOutline::Kind;

constexpr std::string_view blanks = " \t\r\n";
constexpr std::size_t looked_at = std::size_t{1} << 16;  // bytes of a text that is no JSON
constexpr const char* wanted = "{\"instruction\": …, \"conversation\": [{\"input\": …, \"output\": …}]}";
constexpr const char* as_json = "write it as a JSON array or as JSON lines, in UTF-8";

struct Signature {
  std::string_view bytes;
  const char* what;
  const char* remedy;
};
constexpr std::array signatures{
    Signature{"\x1F\x8B"sv, "a gzip archive", "unpack it (gunzip)"},
    Signature{"\x28\xB5\x2F\xFD"sv, "a Zstandard archive", "unpack it (unzstd)"},
    Signature{"\xFD\x37zXZ\0"sv, "an xz archive", "unpack it (unxz)"},
    Signature{"BZh"sv, "a bzip2 archive", "unpack it (bunzip2)"},
    Signature{"\x04\x22\x4D\x18"sv, "an LZ4 archive", "unpack it (unlz4)"},
    Signature{"7z\xBC\xAF\x27\x1C"sv, "a 7z archive", "unpack it"},
    Signature{"Rar!"sv, "a RAR archive", "unpack it"},
    Signature{"PK\x03\x04"sv, "a zip archive (or an Office document)", "unpack it (unzip), or save the table as JSON"},
    Signature{"PK\x05\x06"sv, "an empty zip archive", "look where it comes from"},
    Signature{"PAR1"sv, "a Parquet file",
              "write it as JSON lines (pandas.read_parquet, to_json with orient=\"records\", lines=True)"},
    Signature{"ARROW1"sv, "an Arrow file", "write it as JSON lines (datasets: to_json)"},
    Signature{"\xFF\xFF\xFF\xFF"sv, "an Arrow stream, as Hugging Face's datasets keep them",
              "write it as JSON lines (datasets: to_json)"},
    Signature{"FEA1"sv, "a Feather file", "write it as JSON lines"},
    Signature{"ORC"sv, "an ORC file", "write it as JSON lines"},
    Signature{"Obj\x01"sv, "an Avro file", "write it as JSON lines"},
    Signature{"\x89HDF\r\n\x1A\n"sv, "an HDF5 file", as_json},
    Signature{"\x93NUMPY"sv, "a NumPy file", as_json},
    Signature{"\x80\x02"sv, "a Python pickle", as_json},
    Signature{"\x80\x03"sv, "a Python pickle", as_json},
    Signature{"\x80\x04"sv, "a Python pickle", as_json},
    Signature{"\x80\x05"sv, "a Python pickle", as_json},
    Signature{"SQLite format 3"sv, "an SQLite database", as_json},
    Signature{"%PDF"sv, "a PDF document", as_json},
    Signature{"CRVNPACK"sv, "a packed token file, which prepare wrote",
              "data.source names the instructions themselves"},
    Signature{"version https://git-lfs"sv, "a Git LFS pointer, not the file that it stands for",
              "fetch the file (git lfs pull)"},
    Signature{"\xFF\xFE\0\0"sv, "text in UTF-32", "write it in UTF-8 (iconv -f UTF-32 -t UTF-8)"},
    Signature{"\0\0\xFE\xFF"sv, "text in UTF-32", "write it in UTF-8 (iconv -f UTF-32 -t UTF-8)"},
    Signature{"\xFF\xFE"sv, "text in UTF-16", "write it in UTF-8 (iconv -f UTF-16 -t UTF-8)"},
    Signature{"\xFE\xFF"sv, "text in UTF-16", "write it in UTF-8 (iconv -f UTF-16 -t UTF-8)"}};

std::string seems(std::string_view what, std::string_view remedy) {
  return core::concat("seems to be ", what, "; ", remedy);
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 'a' - 'A') : c; });
  return result;
}

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) + 1 - begin);
}

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (const auto line = trimmed(text.substr(0, end)); !line.empty()) lines.push_back(line);
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return lines;
}

/// A beginning of a text, for a message.
std::string quoted(std::string_view text) {
  constexpr std::size_t most = 40;
  std::string shown(text.substr(0, most));
  for (char& c : shown) c = static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  return core::json_text(nlohmann::json(text.size() > most ? shown + "…" : shown));
}

std::optional<std::string> binary_kind(std::string_view bytes) {
  for (const Signature& signature : signatures) {
    if (bytes.starts_with(signature.bytes)) return seems(signature.what, signature.remedy);
  }
  if (bytes.size() >= 262 && bytes.substr(257, 5) == "ustar") return seems("a tar archive", "unpack it (tar -xf)");
  const std::string_view start = bytes.substr(0, 512);
  if (start.find('\0') == std::string_view::npos) return std::nullopt;
  if (start.find_first_not_of('\0') == std::string_view::npos) {
    return "begins with zero bytes: a copy or download of it was cut off; fetch it again";
  }
  if (start.size() > 1 && (start[0] == '\0') != (start[1] == '\0')) {
    return seems("text in UTF-16", "write it in UTF-8 (iconv -f UTF-16 -t UTF-8)");
  }
  return seems("a binary file", as_json);
}

/// How many bytes the character that `text` begins with has in UTF-8; 0: it is none. Finer rules are the parser's.
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t size = byte(0) < 0x80   ? 1
                           : byte(0) < 0xC2 ? 0
                           : byte(0) < 0xE0 ? 2
                           : byte(0) < 0xF0 ? 3
                           : byte(0) < 0xF5 ? 4
                                            : 0;
  if (size > text.size()) return 0;
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  return size;
}

/// Where a text has characters beyond ASCII.
struct BeyondAscii {
  bool in_utf8 = false, others = false;
};
BeyondAscii beyond_ascii(std::string_view text) {
  BeyondAscii found;
  while (!text.empty()) {
    const std::size_t size = character_bytes(text);
    found.in_utf8 = found.in_utf8 || size > 1;
    found.others = found.others || size == 0;
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return found;
}

/// The elements of the array that a text begins with, else its lines; not JSON, perhaps. The last one may be cut.
std::vector<std::string_view> records_of(std::string_view text) {
  if (text.front() != '[') return lines_of(text);
  std::vector<std::string_view> records;
  int depth = 0;
  bool quoted = false;
  std::size_t begin = 1;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      at += c == '\\';
      quoted = c != '"';
      continue;
    }
    quoted = c == '"';
    depth += c == '{' || c == '[';
    depth -= c == '}' || c == ']';
    if (depth != 1 || c != ',') continue;
    records.push_back(text.substr(begin, at - begin));
    begin = at + 1;
  }
  records.push_back(text.substr(std::min(begin, text.size())));
  return records;
}

/// Text with characters beyond ASCII in several records, none of them in UTF-8. One record alone may be damaged.
bool in_another_encoding(std::string_view text) {
  constexpr std::ptrdiff_t several = 3;
  const bool cut = text.size() > looked_at;
  std::vector<std::string_view> records = records_of(text.substr(0, looked_at));
  if (cut && records.size() > 1) records.pop_back();
  if (cut && records.size() == 1) records.front().remove_suffix(std::min<std::size_t>(4, records.front().size()));
  std::ptrdiff_t others = 0;
  for (const std::string_view record : records) {
    const BeyondAscii found = beyond_ascii(record);
    if (found.in_utf8) return false;
    others += found.others;
  }
  return others >= std::min(several, std::ssize(records));
}

/// Text that begins neither as an array nor as an object.
std::optional<std::string> text_kind(std::string_view text) {
  const std::vector<std::string_view> lines = lines_of(text.substr(0, looked_at));
  const std::string_view first = lines.front();
  if (first.front() == '<') {
    const bool page = lower(first).starts_with("<!doctype html") || lower(first).starts_with("<html");
    return page ? seems("a web page, perhaps one that asks to sign in", "fetch the file itself")
                : seems("an XML or HTML document", as_json);
  }
  // A damaged first line does not make the others bad.
  const auto is_record = [](std::string_view line) {
    return line.front() == '{' && JsonOutline::of(line).kind == Kind::object;
  };
  if (std::any_of(lines.begin(), lines.end(), is_record)) return std::nullopt;
  if (const JsonOutline outline = JsonOutline::of(first); outline.kind == Kind::text && outline.end == first.size()) {
    return foreign_records(first, Place::on_a_line);
  }
  for (const auto& [separator, name] :
       {std::pair{'\t', "tab-separated"}, std::pair{',', "CSV"}, std::pair{';', "CSV"}}) {
    if (lines.size() > 1 && first.find(separator) != std::string_view::npos) {
      return seems(core::concat("a ", name, " table (its first line is ", quoted(first), ")"),
                   "write it as JSON lines");
    }
  }
  if (first == "---" || first.starts_with("- ")) return seems("a YAML document", as_json);
  return core::concat("is neither a JSON array nor JSON lines: it begins with ", quoted(first), "; ", as_json);
}

std::string fields_of(const JsonOutline& outline) {
  std::vector<std::string> names;
  for (const JsonOutline::Field& field : outline.fields) {
    if (names.size() == 6) {
      names.emplace_back("others");
      break;
    }
    names.push_back(field.name);
  }
  return core::join(names);
}

bool is_turn(const std::vector<std::string>& keys) {
  return std::any_of(keys.begin(), keys.end(),
                     [](const std::string& key) { return key == "input" || key == "output"; });
}

bool is_record(const JsonOutline& outline) {
  return outline.kind_of("conversation") == Kind::array_of_objects || outline.kind_of("corpus") == Kind::text;
}

/// One object whose fields are the columns of a table.
bool holds_columns(const JsonOutline& outline) {
  const auto is_column = [](const JsonOutline::Field& field) {
    if (field.kind == Kind::object) return !is_turn(field.keys);
    // A conversation of texts is a wrong one, but one of a record.
    if (field.kind == Kind::array_of_texts) return field.name != "conversation";
    return field.kind == Kind::array || field.kind == Kind::array_of_arrays;
  };
  const auto is_known = [](const JsonOutline::Field& field) {
    constexpr std::array<std::string_view, 5> names{"conversation", "instruction", "corpus", "input", "output"};
    return std::find(names.begin(), names.end(), field.name) != names.end();
  };
  return std::all_of(outline.fields.begin(), outline.fields.end(), is_column) &&
         std::any_of(outline.fields.begin(), outline.fields.end(), is_known);
}

/// Fields that hold a conversation in other formats: an object with one is a record.
constexpr std::array<std::string_view, 6> other_conversations{"messages", "conversations", "turns",
                                                              "dialog",   "chosen",        "rejected"};

/// One object that holds all records; `alone`: there is no other.
std::optional<std::string> holds_records(const JsonOutline& outline, bool alone) {
  if (alone && holds_columns(outline)) {
    return "holds columns instead of records, as pandas writes a table; write it with orient=\"records\"";
  }
  if (is_record(outline)) return std::nullopt;
  for (const JsonOutline::Field& field : outline.fields) {
    if (field.kind != Kind::array_of_objects) continue;
    if (std::find(other_conversations.begin(), other_conversations.end(), field.name) != other_conversations.end())
      continue;
    return core::concat("is one object, which seems to hold the records under \"", field.name,
                        "\"; write that array alone into a file (jq '.[\"", field.name, "\"]')");
  }
  const bool by_name = !outline.fields.empty() &&
                       std::all_of(outline.fields.begin(), outline.fields.end(), [](const JsonOutline::Field& field) {
                         return field.kind == Kind::object && !is_turn(field.keys);
                       });
  if (by_name) return "is one object, which seems to hold records by name; write them as an array (jq '[.[]]')";
  return std::nullopt;
}

/// What stands behind a record on its line, where it is more of the kind.
std::optional<std::string> joined_records(std::string_view rest) {
  if (rest.starts_with('{')) return "holds several objects on a line; write one on each line (jq -c .)";
  if (!rest.starts_with(',')) return std::nullopt;
  return "holds objects with commas behind them, as in an array, but no brackets; put [ before the first and ] behind "
         "the last one";
}

/// Text that begins with "{": JSON lines, or else one object over several lines.
std::optional<std::string> object_kind(std::string_view text) {
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  const JsonOutline first = JsonOutline::of(text.substr(0, end));
  const std::vector<std::string_view> lines = lines_of(text.substr(0, looked_at));
  if (first.kind == Kind::object && lines.size() == 2) {  // of more lines foreign_records looks at two
    const std::string_view rest = trimmed(text.substr(first.end, end - first.end));
    return rest.starts_with(',') ? joined_records(rest) : std::nullopt;
  }
  if (first.kind != Kind::incomplete) return std::nullopt;
  const JsonOutline outline = JsonOutline::of(text);
  if (outline.kind != Kind::object) {
    // A first line that was cut off, if the second one begins anew.
    if (lines.size() < 2 || (lines[1].front() == '{' && lines[1].back() == '}')) return std::nullopt;
    return core::concat("begins with an object over several lines, and that is not JSON", outline.problem,
                        "; data.source must be a JSON array, or have one record on each line");
  }
  const bool more = text.find_first_not_of(blanks, outline.end) != std::string_view::npos;
  if (const auto holder = holds_records(outline, !more)) return holder;
  return core::concat(
      more ? "holds objects over several lines each, one behind the other" : "is one object over several lines",
      " (with ", fields_of(outline), "); data.source must be a JSON array, or have one record on each line (jq -c .)");
}

/// A conversation that is none of turns with input and output. One that is empty, or lacks one of them, is a damaged
/// record.
std::optional<std::string> foreign_turns(const JsonOutline& outline) {
  const Kind kind = outline.kind_of("conversation");
  const auto holds = [](const std::string& what) {
    return core::concat("holds conversations of ", what, "; each record must be ", wanted);
  };
  if (kind == Kind::array_of_arrays) return holds("arrays");
  if (kind == Kind::array_of_texts || kind == Kind::text) return holds("texts");
  const std::vector<std::string> keys = outline.keys_of("conversation");
  if (kind == Kind::object) return holds("one object");
  if (kind != Kind::array_of_objects || keys.empty() || is_turn(keys)) return std::nullopt;
  const auto has = [&](const char* key) { return std::find(keys.begin(), keys.end(), key) != keys.end(); };
  const char* format = has("role") && has("content") ? " (the chat format of OpenAI)"
                       : has("from") && has("value") ? " (the format of ShareGPT)"
                                                     : "";
  return holds(core::concat("turns with the field", keys.size() == 1 ? " " : "s ", core::join(keys), format));
}

}  // namespace

std::optional<std::string> foreign_kind(std::string_view bytes) {
  if (const auto binary = binary_kind(bytes)) return binary;
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);
  const auto begin = bytes.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return std::nullopt;
  bytes.remove_prefix(begin);
  if (in_another_encoding(bytes)) {
    return seems("text in another encoding than UTF-8, perhaps Windows-1252 or Latin-1",
                 "write it in UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)");
  }
  if (bytes.front() == '[') return std::nullopt;
  return bytes.front() == '{' ? object_kind(bytes) : text_kind(bytes);
}

std::optional<std::string> foreign_records(std::string_view record, Place place) {
  record = trimmed(record);
  if (record.starts_with("{'")) {
    return seems("Python's notation of records, not JSON", "write it with json.dump, or with to_json");
  }
  const JsonOutline outline = JsonOutline::of(record);
  if (outline.kind == Kind::text) {
    return "holds texts instead of records; if these are records in JSON, write the objects themselves";
  }
  if (outline.kind == Kind::array) {
    return core::concat("holds arrays instead of records; each record must be ", wanted);
  }
  if (outline.kind != Kind::object || outline.fields.empty()) return std::nullopt;
  if (place != Place::in_array) {
    if (const auto joined = joined_records(trimmed(record.substr(outline.end)))) return joined;
    if (const auto holder = holds_records(outline, place == Place::alone)) return holder;
  }
  if (outline.has("conversation")) return foreign_turns(outline);
  if (outline.has("corpus")) return std::nullopt;
  const auto all = [&](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(), [&](const char* name) { return outline.has(name); });
  };
  const char* format = all({"messages"})                ? " (the chat format of OpenAI)"
                       : all({"conversations"})         ? " (the format of ShareGPT)"
                       : all({"instruction", "output"}) ? " (the format of Alpaca)"
                       : all({"chosen", "rejected"})    ? " (preference pairs)"
                                                        : "";
  return core::concat("holds records with the field", outline.fields.size() == 1 ? " " : "s ", fields_of(outline),
                      format, "; each record must be ", wanted,
                      all({"text"}) ? ", or {\"corpus\": …} for plain text" : "");
}

}  // namespace caravan::data
