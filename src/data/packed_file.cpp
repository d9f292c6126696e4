// SPDX-License-Identifier: Apache-2.0
#include "data/packed_file.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "data/packed_header.hpp"

namespace caravan::data {
namespace {

constexpr const char* advice = "; write it again with prepare";

PackedHeader read_header(const io::MappedFile& file, const std::string& path) {
  PackedHeader header;
  if (file.size() < offsetof(PackedHeader, header_bytes))
    core::bad_input(path, ": is too short for a packed token file");
  std::memcpy(&header, file.data(), std::min(file.size(), sizeof(header)));
  if (header.magic != PackedHeader::expected_magic) {
    core::bad_input(path, ": is not a packed token file; data.packed must name one that prepare wrote");
  }
  if (header.version != packed_file_version) {
    core::bad_input(path, ": has format version ", header.version, ", and this program reads version ",
                    packed_file_version, advice);
  }
  if (file.size() < sizeof(header)) core::bad_input(path, ": is cut off in its header", advice);
  if (header.header_bytes != sizeof(header) ||
      header.checksum != core::xxh3(&header, offsetof(PackedHeader, checksum))) {
    core::bad_input(path, ": its header is damaged (checksum)", advice);
  }
  if (header.file_bytes != file.size()) {
    core::bad_input(path, ": has ", file.size(), " bytes where its header says ", header.file_bytes,
                    ": it was cut off or added to", advice);
  }
  return header;
}

/// Sections follow each other in their order, aligned, with zeros between them. Their sizes follow from the counts,
/// which the file's size bounds (so no product below overflows).
void check_sections(const PackedHeader& header, const io::MappedFile& file, const std::string& path) {
  const std::uint64_t most = file.size();
  if (header.tokens > most || header.documents > most || header.sequences > most) {
    core::bad_input(path, ": its counts do not fit its size", advice);
  }
  const std::array<std::uint64_t, PackedHeader::section_count> expected{header.sections[0].bytes, header.tokens * 4,
                                                                        header.tokens, (header.documents + 1) * 8,
                                                                        (header.sequences + 1) * 8};
  std::uint64_t at = sizeof(PackedHeader);
  const auto check_gap = [&](const char* name) {
    const auto* gap = file.data() + at;
    const auto size = static_cast<std::ptrdiff_t>(aligned(at) - at);
    if (std::any_of(gap, gap + size, [](std::byte b) { return b != std::byte{0}; })) {
      core::bad_input(path, ": bytes before or after section ", name, " are not zero", advice);
    }
    at = aligned(at);
  };
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& section = header.sections[i];
    const char* name = PackedHeader::section_names[i];
    if (section.offset != aligned(at) || section.bytes != expected[i] || section.bytes > most ||
        aligned(section.offset + section.bytes) > most) {
      core::bad_input(path, ": section ", name, " has ", section.bytes, " bytes at ", section.offset,
                      ", which does not fit the header's counts", advice);
    }
    check_gap(name);
    at = section.offset + section.bytes;
  }
  check_gap(PackedHeader::section_names.back());
  if (at != most) core::bad_input(path, ": has bytes after its last section", advice);
}

void check_checksum(const PackedHeader& header, std::size_t i, const io::MappedFile& file, const std::string& path) {
  const auto& section = header.sections.at(i);
  if (core::xxh3(file.data() + section.offset, section.bytes) == section.checksum) return;
  core::bad_input(path, ": section ", PackedHeader::section_names.at(i), " is damaged (checksum; ", section.bytes,
                  " bytes at ", section.offset, ")", advice);
}

/// Counts and checksums of the sections behind the metadata.
std::string content_of(const PackedHeader& header) {
  std::vector<std::uint64_t> facts{header.tokens, header.documents, header.sequences};
  for (std::size_t i = 1; i < header.sections.size(); ++i) facts.push_back(header.sections.at(i).checksum);
  return core::checksum(facts.data(), facts.size() * sizeof(facts[0]));
}

template <typename T>
std::span<const T> section_of(const io::MappedFile& file, const PackedHeader::Section& section) {
  return {reinterpret_cast<const T*>(file.data() + section.offset), section.bytes / sizeof(T)};
}

PackedMetadata from_json(std::span<const char> text, const std::string& path) {
  try {
    const auto object = core::parse_ordered_json({text.data(), text.size()});
    PackedMetadata metadata{
        object.at("template"),       object.at("packing"), object.at("sequence"),           object.at("tokenizer"),
        object.at("vocabulary"),     object.at("source"),  object.at("source_fingerprint"), object.at("part"),
        object.at("held_out_every"), object.at("program")};
    if (object.contains("max_prompt")) metadata.max_prompt = object.at("max_prompt").get<std::int64_t>();
    if (object.contains("source_bytes")) metadata.source_bytes = object.at("source_bytes").get<std::uint64_t>();
    if (object.contains("tokenizer_identity")) metadata.tokenizer_identity = object.at("tokenizer_identity");
    if (object.contains("largest_id")) metadata.largest_id = object.at("largest_id").get<std::int32_t>();
    return metadata;
  } catch (const nlohmann::json::exception& error) {
    core::bad_input(path, ": section metadata: ", error.what(), advice);
  }
}

}  // namespace

std::optional<std::int32_t> trained_eos(const nlohmann::json& metadata) {
  if (!metadata.is_object()) return std::nullopt;
  const auto identity = metadata.value("tokenizer_identity", nlohmann::json());
  if (!identity.is_object()) return std::nullopt;
  const auto eos = identity.value("eos_token", nlohmann::json());
  if (!eos.is_object() || !eos.value("id", nlohmann::json()).is_number_integer()) return std::nullopt;
  return eos.at("id").get<std::int32_t>();
}

PackedFile::PackedFile(const std::string& path, Check check) : path_(path), file_(path) {
  const PackedHeader header = read_header(file_, path_);
  check_sections(header, file_, path_);
  check_checksum(header, 0, file_, path_);
  metadata_ = from_json(section_of<char>(file_, header.sections[0]), path_);
  tokens_ = section_of<std::int32_t>(file_, header.sections[1]);
  labelled_ = section_of<std::uint8_t>(file_, header.sections[2]);
  document_starts_ = section_of<std::uint64_t>(file_, header.sections[3]);
  sequence_starts_ = section_of<std::uint64_t>(file_, header.sections[4]);
  fingerprint_ = core::hex(header.checksum);
  content_ = content_of(header);
  if (check == Check::whole) verify();
}

void PackedFile::verify() const {
  const PackedHeader header = read_header(file_, path_);
  for (std::size_t i = 0; i < header.sections.size(); ++i) check_checksum(header, i, file_, path_);
  check_contents();
}

void PackedFile::check_contents() const {
  const auto rises = [](std::span<const std::uint64_t> starts, std::uint64_t end) {
    if (starts.front() != 0 || starts.back() != end) return false;
    return std::adjacent_find(starts.begin(), starts.end(), [](auto a, auto b) { return a >= b; }) == starts.end();
  };
  if (!rises(document_starts_, tokens_.size()))
    core::bad_input(path_, ": document_starts do not rise from 0 to N", advice);
  if (!rises(sequence_starts_, document_starts_.size() - 1)) {
    core::bad_input(path_, ": sequence_starts do not rise from 0 to D", advice);
  }
  for (std::int64_t s = 0; s < sequences(); ++s) {
    if (length(s) > metadata_.sequence) {
      core::bad_input(path_, ": sequence ", s, " has ", length(s), " tokens, more than ", metadata_.sequence, advice);
    }
  }
  const std::int64_t end = std::min<std::int64_t>(
      metadata_.vocabulary, metadata_.largest_id ? std::int64_t{*metadata_.largest_id} + 1 : metadata_.vocabulary);
  const auto wrong = [&](std::int32_t id) { return id < 0 || id >= end; };
  if (const auto bad = std::find_if(tokens_.begin(), tokens_.end(), wrong); bad != tokens_.end()) {
    core::bad_input(path_, ": token ", bad - tokens_.begin(), " has id ", *bad, " outside the vocabulary of ", end,
                    advice);
  }
  if (std::any_of(labelled_.begin(), labelled_.end(), [](std::uint8_t flag) { return flag > 1; })) {
    core::bad_input(path_, ": section labelled has values other than 0 and 1", advice);
  }
}

std::int64_t PackedFile::targets(std::int64_t s) const {
  std::int64_t count = 0;
  for (auto d = sequence_starts_[static_cast<std::size_t>(s)]; d < sequence_starts_[static_cast<std::size_t>(s) + 1];
       ++d) {
    for (auto t = document_starts_[d] + 1; t < document_starts_[d + 1]; ++t) count += labelled_[t];
  }
  return count;
}

std::int32_t PackedFile::largest_id() const {
  if (metadata_.largest_id) return *metadata_.largest_id;
  return tokens_.empty() ? -1 : *std::max_element(tokens_.begin(), tokens_.end());
}

std::set<std::int32_t> PackedFile::last_tokens() const {
  std::set<std::int32_t> last;
  for (std::size_t d = 0; d + 1 < document_starts_.size(); ++d) {
    const std::uint64_t begin = document_starts_[d], end = document_starts_[d + 1];
    if (begin >= end || end > tokens_.size()) {  // only the header may have been verified
      core::bad_input(path_, ": document_starts do not rise from 0 to N", advice);
    }
    if (end - begin < static_cast<std::uint64_t>(metadata_.sequence)) last.insert(tokens_[end - 1]);
  }
  return last;
}

bool PackedFile::has_targets() const {
  for (std::int64_t s = 0; s < sequences(); ++s) {
    if (targets(s) > 0) return true;
  }
  return false;
}

}  // namespace caravan::data
