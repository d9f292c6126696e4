// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.hpp"

namespace caravan::io {
namespace {

using nlohmann::json;

struct TypeRow {
  std::string_view name;
  std::size_t bytes;
  std::optional<core::DType> dtype;
};
constexpr std::array<TypeRow, 16> types{{{"F32", 4, core::DType::f32},
                                         {"BF16", 2, core::DType::bf16},
                                         {"F16", 2, core::DType::f16},
                                         {"F64", 8, core::DType::f64},
                                         {"I64", 8, core::DType::i64},
                                         {"I32", 4, core::DType::i32},
                                         {"U8", 1, core::DType::u8},
                                         {"BOOL", 1, {}},
                                         {"I8", 1, {}},
                                         {"I16", 2, {}},
                                         {"U16", 2, {}},
                                         {"U32", 4, {}},
                                         {"U64", 8, {}},
                                         {"F8_E4M3", 1, {}},
                                         {"F8_E5M2", 1, {}},
                                         {"C64", 8, {}}}};

// The reference implementation's own limit.
constexpr std::uint64_t longest_header = 100'000'000;

class Parser {
 public:
  explicit Parser(const MappedFile& file) : file_(file), path_(file.path().string()) {}

  SafetensorsHeader run() {
    const std::string_view text = header_text();
    const json document = parse(text);
    data_begin_ = 8 + text.size();
    for (const auto& [name, value] : document.items()) {
      if (name == "__metadata__") {
        read_metadata(value);
      } else {
        read_tensor(name, value);
      }
    }
    check_coverage();
    return std::move(header_);
  }

 private:
  std::string_view header_text() const {
    if (file_.size() < 8) {
      core::bad_input(path_, ": not a safetensors file: ", file_.size(),
                      " bytes, but the header length at byte 0 takes 8");
    }
    std::uint64_t length = 0;
    for (std::size_t i = 8; i-- > 0;) length = (length << 8) | std::to_integer<std::uint64_t>(file_.data()[i]);
    if (length > file_.size() - 8) {
      core::bad_input(path_, ": the header length at byte 0 is ", length, " bytes, but only ", file_.size() - 8,
                      " follow: the file is cut short or not a safetensors file");
    }
    if (length > longest_header) {
      core::bad_input(path_, ": the header length at byte 0 is ", length, " bytes; more than ", longest_header,
                      " is not a safetensors header");
    }
    const auto* begin = reinterpret_cast<const char*>(file_.data()) + 8;
    if (length == 0 || *begin != '{') core::bad_input(path_, ": the header at byte 8 does not begin with \"{\"");
    return {begin, static_cast<std::size_t>(length)};
  }

  json parse(std::string_view text) const {
    std::set<std::string> seen;
    std::optional<std::string> twice;
    const auto watch_names = [&](int depth, json::parse_event_t event, json& parsed) {
      if (event == json::parse_event_t::key && depth == 1 && !seen.insert(parsed.get<std::string>()).second) {
        twice = parsed.get<std::string>();
      }
      return true;
    };
    json document;
    try {
      document = json::parse(text, watch_names);
    } catch (const json::exception& error) {
      const auto* syntax = dynamic_cast<const json::parse_error*>(&error);
      core::bad_input(path_, ": the header is not valid JSON at byte ", 8 + (syntax ? syntax->byte : 0), ": ",
                      error.what());
    }
    if (twice) refuse(*twice, 8, "the header names it twice");
    if (!document.is_object()) core::bad_input(path_, ": the header at byte 8 is not a JSON object");
    return document;
  }

  void read_metadata(const json& value) {
    if (!value.is_object()) core::bad_input(path_, ": __metadata__ in the header at byte 8 is not an object");
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) {
        core::bad_input(path_, ": __metadata__ in the header at byte 8: the value of \"", key, "\" is not text");
      }
      header_.metadata[key] = text.get<std::string>();
    }
  }

  void read_tensor(const std::string& name, const json& value) {
    if (!value.is_object()) refuse(name, 8, "its entry in the header is not an object");
    for (const char* field : {"dtype", "shape", "data_offsets"}) {
      if (!value.contains(field)) refuse(name, 8, "its entry in the header lacks \"", field, "\"");
    }
    SafetensorsFile::Entry entry;
    if (!value["dtype"].is_string()) refuse(name, 8, "its dtype is not text");
    entry.dtype = value["dtype"].get<std::string>();
    const auto type =
        std::find_if(types.begin(), types.end(), [&](const TypeRow& row) { return row.name == entry.dtype; });
    if (type == types.end()) refuse(name, 8, "unknown dtype \"", entry.dtype, "\"");

    std::uint64_t expected = type->bytes;
    if (!value["shape"].is_array()) refuse(name, 8, "its shape is not a list");
    for (const json& extent : value["shape"]) {
      if (!extent.is_number_unsigned()) refuse(name, 8, "its shape has an entry that is not a whole number ≥ 0");
      const auto size = extent.get<std::uint64_t>();
      if (size > static_cast<std::uint64_t>(INT64_MAX) || __builtin_mul_overflow(expected, size, &expected)) {
        refuse(name, 8, "its shape ", value["shape"].dump(), " is too large");
      }
      entry.shape.push_back(static_cast<std::int64_t>(size));
    }

    const json& offsets = value["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
        !offsets[1].is_number_unsigned()) {
      refuse(name, 8, "its data_offsets are not two whole numbers ≥ 0");
    }
    const auto begin = offsets[0].get<std::uint64_t>();
    const auto end = offsets[1].get<std::uint64_t>();
    const std::uint64_t available = file_.size() - data_begin_;
    if (begin > end) refuse(name, data_begin_, "its data_offsets ", begin, " to ", end, " run backwards");
    if (end > available) {
      refuse(name, data_begin_ + std::min(begin, available), "its data_offsets ", begin, " to ", end,
             " end beyond the file, which has ", available, " bytes of data: the file is cut short");
    }
    if (end - begin != expected) {
      refuse(name, data_begin_ + begin, end - begin, " bytes are given, but shape ", layout::to_string(entry.shape),
             " of ", entry.dtype, " takes ", expected);
    }
    entry.begin = data_begin_ + begin;
    entry.end = data_begin_ + end;
    header_.tensors.emplace(name, std::move(entry));
  }

  // Every byte after the header belongs to exactly one tensor.
  void check_coverage() const {
    std::vector<std::pair<const std::string*, const SafetensorsFile::Entry*>> order;
    for (const auto& [name, entry] : header_.tensors) order.emplace_back(&name, &entry);
    std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
      return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
    });
    std::size_t covered = data_begin_;
    const std::string* before = nullptr;
    for (const auto& [name, entry] : order) {
      if (entry->begin < covered) refuse(*name, entry->begin, "it overlaps tensor ", *before);
      if (entry->begin > covered) {
        refuse(*name, entry->begin, "the bytes from ", covered, " up to it belong to no tensor");
      }
      covered = entry->end;
      before = name;
    }
    if (covered != file_.size()) {
      core::bad_input(path_, before ? ": after the last tensor, " + *before + "," : std::string(":"), " ",
                      file_.size() - covered, " bytes from byte ", covered, " on belong to no tensor");
    }
  }

  template <typename... Parts>
  [[noreturn]] void refuse(const std::string& tensor, std::size_t offset, const Parts&... parts) const {
    core::bad_input(path_, ": tensor ", tensor, " (byte ", offset, "): ", parts...);
  }

  const MappedFile& file_;
  std::string path_;
  std::size_t data_begin_ = 8;
  SafetensorsHeader header_;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(const MappedFile& file) { return Parser(file).run(); }

std::optional<core::DType> dtype_from_safetensors(std::string_view name) {
  for (const TypeRow& row : types) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

std::string_view safetensors_name_of(core::DType dtype) {
  for (const TypeRow& row : types) {
    if (row.dtype == dtype) return row.name;
  }
  core::internal_error("safetensors has no name for ", core::name_of(dtype));
}

}  // namespace caravan::io
