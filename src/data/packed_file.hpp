// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "data/record.hpp"
#include "io/atomic_file.hpp"
#include "io/mapped_file.hpp"

namespace caravan::data {

// The packed token file, format version 1 (docs/packed-file-format.md). N tokens in D documents in S sequences.
inline constexpr std::uint32_t packed_file_version = 1;

/// What a packed file says about how it was made; JSON in the file.
struct PackedMetadata {
  std::string template_name;       // data.template
  std::string packing;             // data.packing
  std::int64_t sequence = 0;       // the most tokens in a sequence
  std::string tokenizer;           // Tokenizer::fingerprint
  std::int64_t vocabulary = 0;     // every token id is below it: one more than the tokenizer's largest id
  std::string source;              // name of the source file, without folders
  std::string source_fingerprint;  // XXH3-64 of it
  std::string part;                // "train" or "held_out"
  std::int64_t held_out_every = 0;
  std::string program;  // that wrote the file
  // Older files do not have these.
  std::optional<std::int64_t> max_prompt{};     // data.max_prompt
  std::optional<std::uint64_t> source_bytes{};  // size of the source
  nlohmann::ordered_json tokenizer_identity{};  // Tokenizer::identity; null: not known
  std::optional<std::int32_t> largest_id{};     // of the tokens in the file
};

/// The token that answers end with in a file of this metadata, as to_json() gives them; nothing when they do not say.
std::optional<std::int32_t> trained_eos(const nlohmann::json& metadata);

/// The metadata as they stand in the file.
nlohmann::ordered_json to_json(const PackedMetadata& metadata);

/// Collects documents and writes them as a packed file. Holds them in memory: 5 bytes per token.
class PackedWriter {
 public:
  /// Reserves nothing on disk. packing "simple": a document joins the sequence before it while both fit into
  /// metadata.sequence tokens; "none": every document is a sequence.
  explicit PackedWriter(PackedMetadata metadata);

  /// The document is not empty and no longer than metadata.sequence.
  void add(const Document& document);

  std::uint64_t tokens() const { return tokens_.size(); }
  std::uint64_t labelled() const { return labelled_count_; }
  std::uint64_t documents() const { return document_starts_.size() - 1; }
  std::uint64_t sequences() const { return sequence_starts_.size(); }

  /// Writes all; the caller commits. Throws with the path (exit 74 when the storage is full).
  void write(io::AtomicFile& file) const;

 private:
  PackedMetadata metadata_;
  bool join_;
  std::vector<std::int32_t> tokens_;
  std::vector<std::uint8_t> labels_;
  std::vector<std::uint64_t> document_starts_{0};  // [D+1], first token of each document, then N
  std::vector<std::uint64_t> sequence_starts_;     // [S], first document of each sequence
  std::uint64_t labelled_count_ = 0;
  std::int32_t largest_id_ = -1;
};

/// A packed file, mapped read-only.
class PackedFile {
 public:
  enum class Check {
    header,  // magic, version, sizes and the checksums of header and metadata
    whole,   // and what verify() does
  };
  /// Throws (exit 2) with the path, the section and what is wrong.
  explicit PackedFile(const std::string& path, Check check = Check::whole);

  /// Reads the file once: the checksums of all sections, and that starts and tokens are in range. Throws likewise.
  void verify() const;

  const std::string& path() const { return path_; }
  const PackedMetadata& metadata() const { return metadata_; }
  std::int64_t sequences() const { return static_cast<std::int64_t>(sequence_starts_.size()) - 1; }
  std::int64_t documents() const { return static_cast<std::int64_t>(document_starts_.size()) - 1; }

  std::span<const std::int32_t> tokens() const { return tokens_; }                     // [N]
  std::span<const std::uint8_t> labelled() const { return labelled_; }                 // [N], 0 or 1
  std::span<const std::uint64_t> document_starts() const { return document_starts_; }  // [D+1]
  std::span<const std::uint64_t> sequence_starts() const { return sequence_starts_; }  // [S+1], in documents

  /// First token of sequence s, and one past its last (s + 1 is the next one's first).
  std::uint64_t first_token(std::int64_t s) const {
    return document_starts_[sequence_starts_[static_cast<std::size_t>(s)]];
  }
  std::int64_t length(std::int64_t s) const { return static_cast<std::int64_t>(first_token(s + 1) - first_token(s)); }
  /// Response tokens of sequence s: labelled ones that are not the first of their document.
  std::int64_t targets(std::int64_t s) const;
  /// Whether any sequence has one: without, there is nothing to learn.
  bool has_targets() const;
  /// The largest token id. Reads all tokens of a file of an earlier version.
  std::int32_t largest_id() const;
  /// The tokens that documents end with, of those that are shorter than a sequence: a longer one may have been cut.
  /// Throws (exit 2) when a document does not lie in the file.
  std::set<std::int32_t> last_tokens() const;

  /// XXH3-64 of the header, which holds the sections' checksums: of the whole file. 16 hexadecimal digits.
  const std::string& fingerprint() const { return fingerprint_; }
  /// Checksum of all but the metadata, likewise: the same for the same tokens in the same documents and sequences,
  /// whichever version of the program wrote them, and from a source of whatever name.
  const std::string& content() const { return content_; }

 private:
  void check_contents() const;

  std::string path_;
  io::MappedFile file_;
  PackedMetadata metadata_;
  std::string fingerprint_, content_;
  std::span<const std::int32_t> tokens_;
  std::span<const std::uint8_t> labelled_;
  std::span<const std::uint64_t> document_starts_, sequence_starts_;
};

}  // namespace caravan::data
