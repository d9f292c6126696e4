// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace caravan::data {

static_assert(std::endian::native == std::endian::little, "packed files are little-endian");

/// The first bytes of a packed file (docs/packed-file-format.md), as they lie there.
struct PackedHeader {
  struct Section {
    std::uint64_t offset = 0;    // from the start of the file, a multiple of 64
    std::uint64_t bytes = 0;     // without the zeros that fill up to the next section
    std::uint64_t checksum = 0;  // XXH3-64 of these bytes
  };
  static constexpr std::size_t section_count = 5;
  static constexpr std::array<const char*, section_count> section_names{"metadata", "tokens", "labelled",
                                                                        "document_starts", "sequence_starts"};
  static constexpr std::array<char, 8> expected_magic{'C', 'R', 'V', 'N', 'P', 'A', 'C', 'K'};
  static constexpr std::uint64_t alignment = 64;

  std::array<char, 8> magic = expected_magic;
  std::uint32_t version = 0;
  std::uint32_t header_bytes = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t tokens = 0, documents = 0, sequences = 0;
  std::array<Section, section_count> sections{};
  std::uint64_t checksum = 0;  // XXH3-64 of the bytes before it
};
static_assert(sizeof(PackedHeader) == 176 && sizeof(PackedHeader) == 48 + 24 * PackedHeader::section_count + 8);

inline std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + PackedHeader::alignment - 1) / PackedHeader::alignment * PackedHeader::alignment;
}

}  // namespace caravan::data
