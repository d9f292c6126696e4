// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstddef>
#include <numeric>

#include "core/checksum.hpp"
#include "core/error.hpp"
#include "core/json.hpp"
#include "data/options.hpp"
#include "data/packed_file.hpp"
#include "data/packed_header.hpp"

namespace caravan::data {

nlohmann::ordered_json to_json(const PackedMetadata& metadata) {
  // ordered_json: the file's bytes are the same whatever the library's map.
  nlohmann::ordered_json object{{"template", metadata.template_name},
                                {"packing", metadata.packing},
                                {"sequence", metadata.sequence},
                                {"tokenizer", metadata.tokenizer},
                                {"vocabulary", metadata.vocabulary},
                                {"source", metadata.source},
                                {"source_fingerprint", metadata.source_fingerprint},
                                {"part", metadata.part},
                                {"held_out_every", metadata.held_out_every},
                                {"program", metadata.program}};
  if (metadata.max_prompt) object["max_prompt"] = *metadata.max_prompt;
  if (metadata.source_bytes) object["source_bytes"] = *metadata.source_bytes;
  if (!metadata.tokenizer_identity.is_null()) object["tokenizer_identity"] = metadata.tokenizer_identity;
  if (metadata.largest_id) object["largest_id"] = *metadata.largest_id;
  return object;
}

PackedWriter::PackedWriter(PackedMetadata metadata)
    : metadata_(std::move(metadata)), join_(metadata_.packing == core::spelling(Packing::simple)) {}

void PackedWriter::add(const Document& document) {
  const std::uint64_t length = document.tokens.size(), most = static_cast<std::uint64_t>(metadata_.sequence);
  CARAVAN_CHECK(length > 0 && length <= most && length == document.labelled.size(), length, " of ", most);
  const std::uint64_t held = sequence_starts_.empty() ? 0 : tokens_.size() - document_starts_[sequence_starts_.back()];
  if (!join_ || sequence_starts_.empty() || held + length > most) sequence_starts_.push_back(documents());
  tokens_.insert(tokens_.end(), document.tokens.begin(), document.tokens.end());
  labels_.insert(labels_.end(), document.labelled.begin(), document.labelled.end());
  largest_id_ = std::max(largest_id_, *std::max_element(document.tokens.begin(), document.tokens.end()));
  labelled_count_ = std::accumulate(document.labelled.begin(), document.labelled.end(), labelled_count_);
  document_starts_.push_back(tokens_.size());
}

void PackedWriter::write(io::AtomicFile& file) const {
  PackedMetadata described = metadata_;
  described.largest_id = largest_id_;
  const std::string metadata = core::json_text(to_json(described), 1);
  std::vector<std::uint64_t> sequence_starts = sequence_starts_;
  sequence_starts.push_back(documents());
  const std::array<std::span<const std::byte>, PackedHeader::section_count> sections{
      std::as_bytes(std::span(metadata)), std::as_bytes(std::span(tokens_)), std::as_bytes(std::span(labels_)),
      std::as_bytes(std::span(document_starts_)), std::as_bytes(std::span(sequence_starts))};

  PackedHeader header;
  header.version = packed_file_version;
  header.header_bytes = sizeof(PackedHeader);
  header.tokens = tokens_.size();
  header.documents = documents();
  header.sequences = sequences();
  std::uint64_t at = aligned(sizeof(PackedHeader));
  for (std::size_t i = 0; i < sections.size(); ++i) {
    header.sections[i] = {at, sections[i].size(), core::xxh3(sections[i].data(), sections[i].size())};
    at = aligned(at + sections[i].size());
  }
  header.file_bytes = at;
  header.checksum = core::xxh3(&header, offsetof(PackedHeader, checksum));

  const std::array<char, PackedHeader::alignment> zeros{};
  const auto put = [&](const void* bytes, std::size_t size) {
    if (size > 0) file.write(bytes, size);
    if (const auto gap = aligned(size) - size; gap > 0) file.write(zeros.data(), gap);
  };
  put(&header, sizeof(header));
  for (const auto& section : sections) put(section.data(), section.size());
}

}  // namespace caravan::data
