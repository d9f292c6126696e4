// SPDX-License-Identifier: Apache-2.0
#include "data/packed_file.hpp"

#include <cstring>

#include "core/checksum.hpp"
#include "core/random.hpp"
#include "data/packed_header.hpp"
#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::Document;
using data::PackedFile;
using data::PackedHeader;
using data::PackedMetadata;
using data::PackedWriter;

constexpr std::int64_t vocabulary = 100;

PackedMetadata metadata_of(const std::string& packing, std::int64_t sequence) {
  return {"idae",  packing, sequence,      "0123456789abcdef", vocabulary, "some \"file\".json", "fedcba9876543210",
          "train", 5,       "caravan test"};
}

/// Documents of lengths that only the number of the document decides.
std::vector<Document> some_documents(std::size_t count, std::uint64_t most) {
  std::vector<Document> documents(count);
  for (std::size_t d = 0; d < count; ++d) {
    const std::uint64_t length = 1 + core::mix64(d) % most;
    for (std::uint64_t t = 0; t < length; ++t) {
      documents[d].tokens.push_back(static_cast<std::int32_t>(core::mix64(d * 1000 + t) % vocabulary));
      documents[d].labelled.push_back(core::mix64(d * 1000 + t) % 3 == 0);
    }
  }
  return documents;
}

std::string write(const test::TemporaryFolder& folder, const PackedMetadata& metadata,
                  const std::vector<Document>& documents) {
  PackedWriter writer(metadata);
  for (const auto& document : documents) writer.add(document);
  std::string path = folder / "packed";
  io::AtomicFile file(path);
  writer.write(file);
  file.commit();
  return path;
}

TEST_CASE("a packed file gives back what went in, and joins only what fits") {
  test::TemporaryFolder folder;
  const std::int64_t most = 40;
  const auto documents = some_documents(60, most);
  for (const std::string packing : {"none", "simple"}) {
    const PackedFile file(write(folder, metadata_of(packing, most), documents));
    CHECK(file.metadata().packing == packing);
    CHECK(file.metadata().sequence == most);
    CHECK(file.metadata().source == "some \"file\".json");
    CHECK(file.metadata().program == "caravan test");
    REQUIRE(file.documents() == static_cast<std::int64_t>(documents.size()));
    for (std::size_t d = 0; d < documents.size(); ++d) {
      const auto begin = file.document_starts()[d], length = file.document_starts()[d + 1] - begin;
      const auto tokens = file.tokens().subspan(begin, length);
      const auto labelled = file.labelled().subspan(begin, length);
      CHECK(std::equal(tokens.begin(), tokens.end(), documents[d].tokens.begin(), documents[d].tokens.end()));
      CHECK(std::equal(labelled.begin(), labelled.end(), documents[d].labelled.begin(), documents[d].labelled.end()));
    }
    std::size_t d = 0;
    for (std::int64_t s = 0; s < file.sequences(); ++s) {
      // Naive: take documents while the next one fits.
      std::int64_t length = 0, targets = 0;
      CHECK(file.sequence_starts()[static_cast<std::size_t>(s)] == d);
      do {
        length += static_cast<std::int64_t>(documents[d].tokens.size());
        targets += documents[d].targets();
        ++d;
      } while (packing == "simple" && d < documents.size() &&
               length + static_cast<std::int64_t>(documents[d].tokens.size()) <= most);
      CHECK(file.length(s) == length);
      CHECK(file.targets(s) == targets);
    }
    CHECK(d == documents.size());
  }
}

TEST_CASE("a summary says what the file is without reading its tokens") {
  const test::TemporaryFolder folder;
  const std::string path = write(folder, metadata_of("simple", 40), some_documents(60, 40));
  const std::string fingerprint = PackedFile(path).fingerprint();
  const std::int64_t sequences = PackedFile(path).sequences();
  std::string bytes = test::read_bytes(path);
  bytes[bytes.size() / 2] ^= 1;  // among the tokens
  std::ofstream(path, std::ios::binary) << bytes;
  CHECK_THROWS_AS(PackedFile(path), core::Error);
  const PackedFile summary(path, PackedFile::Check::header);
  CHECK(summary.sequences() == sequences);
  CHECK(summary.fingerprint() == fingerprint);
  CHECK(summary.metadata().packing == "simple");
  bytes[sizeof(PackedHeader) + 20] ^= 1;  // in the metadata
  std::ofstream(path, std::ios::binary) << bytes;
  CHECK_THROWS_AS(PackedFile(path, PackedFile::Check::header), core::Error);
}

TEST_CASE("the same documents give the same bytes, and nothing appears before the commit") {
  test::TemporaryFolder folder;
  const auto documents = some_documents(7, 9);
  const std::string first = test::read_bytes(write(folder, metadata_of("simple", 9), documents));
  const std::string path = write(folder, metadata_of("simple", 9), documents);
  CHECK(test::read_bytes(path) == first);
  {
    PackedWriter writer(metadata_of("none", 9));
    writer.add(documents.front());
    io::AtomicFile file(path);
    writer.write(file);
  }
  CHECK(test::read_bytes(path) == first);
}

TEST_CASE("a content is that of the tokens, not of who wrote them or from which file") {
  test::TemporaryFolder folder;
  const auto documents = some_documents(7, 9);
  const PackedFile file(write(folder, metadata_of("simple", 9), documents));
  PackedMetadata other = metadata_of("simple", 9);
  other.program = "caravan of another version";
  other.source = "moved.json";
  other.max_prompt = 100;  // a key that older versions did not write
  test::TemporaryFolder elsewhere;
  const PackedFile same(write(elsewhere, other, documents));
  CHECK(same.content() == file.content());
  CHECK(same.fingerprint() != file.fingerprint());
  CHECK(same.metadata().max_prompt == 100);
  CHECK_FALSE(file.metadata().max_prompt.has_value());

  auto changed = documents;
  changed[3].tokens[0] = (changed[3].tokens[0] + 1) % static_cast<std::int32_t>(vocabulary);
  CHECK(PackedFile(write(elsewhere, other, changed)).content() != file.content());
  changed = documents;
  changed[3].labelled[0] = 1 - changed[3].labelled[0];
  CHECK(PackedFile(write(elsewhere, other, changed)).content() != file.content());
  other.packing = "none";  // the same documents in other sequences
  CHECK(PackedFile(write(elsewhere, other, documents)).content() != file.content());
}

TEST_CASE("a file in which nothing is to be learnt says so") {
  test::TemporaryFolder folder;
  // A document's first token is never a target.
  CHECK_FALSE(PackedFile(write(folder, metadata_of("none", 9), {{{1, 2}, {1, 0}}, {{3}, {1}}})).has_targets());
  CHECK(PackedFile(write(folder, metadata_of("none", 9), {{{1, 2}, {1, 0}}, {{3, 4}, {0, 1}}})).has_targets());
}

TEST_CASE("a file of which the header alone was checked is verified later") {
  test::TemporaryFolder folder;
  std::string bytes = test::read_bytes(write(folder, metadata_of("simple", 12), some_documents(9, 12)));
  PackedHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  for (std::size_t i = 0; i < header.sections.size(); ++i) {
    std::string damaged = bytes;
    damaged[header.sections[i].offset] = static_cast<char>(damaged[header.sections[i].offset] ^ 1);
    const std::string path = folder.write("damaged", damaged);
    const std::string name = PackedHeader::section_names[i];
    const auto words = "section " + name + " is damaged";
    if (i == 0) {
      CHECK(test::refusal([&] { PackedFile(path, PackedFile::Check::header); }).find(words) != std::string::npos);
      continue;
    }
    const PackedFile file(path, PackedFile::Check::header);
    CHECK(file.metadata().program == "caravan test");
    CHECK(test::refusal([&] { file.verify(); }).find(words) != std::string::npos);
  }
}

TEST_CASE("a changed byte and a cut are refused wherever they are") {
  test::TemporaryFolder folder;
  const std::string bytes = test::read_bytes(write(folder, metadata_of("simple", 12), some_documents(9, 12)));
  // Every byte of the header; beyond it a stride that meets every section and gap and every place in a number.
  for (std::size_t at = 0; at < bytes.size(); at += at < sizeof(PackedHeader) ? 1 : 5) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const std::string path = folder.write("damaged", damaged);
    const std::string message = test::refusal([&] { PackedFile file(path); });
    if (message.find(path) != 0) FAIL("byte " << at << ": " << message);
  }
  for (std::size_t size = 0; size < bytes.size(); size += 7) {
    const std::string path = folder.write("cut", bytes.substr(0, size));
    if (test::refusal([&] { PackedFile file(path); }).find(path) != 0) FAIL("cut to " << size);
  }
  const std::string longer = folder.write("longer", bytes + std::string(64, '\0'));
  CHECK(test::refusal([&] { PackedFile file(longer); }).find("added to") != std::string::npos);
}

TEST_CASE("refusals name what is wrong, also when every checksum is right") {
  test::TemporaryFolder folder;
  const std::string bytes = test::read_bytes(write(folder, metadata_of("simple", 12), some_documents(9, 12)));
  PackedHeader header;
  std::memcpy(&header, bytes.data(), sizeof(header));
  // Changes the file by `change(header, bytes)`, then makes its checksums right again.
  const auto message_after = [&](const auto& change) {
    PackedHeader changed = header;
    std::string damaged = bytes;
    change(changed, damaged);
    for (auto& section : changed.sections) {
      if (section.bytes <= damaged.size() && section.offset + section.bytes <= damaged.size()) {
        section.checksum = core::xxh3(damaged.data() + section.offset, section.bytes);
      }
    }
    changed.checksum = core::xxh3(&changed, offsetof(PackedHeader, checksum));
    std::memcpy(damaged.data(), &changed, sizeof(changed));
    const std::string path = folder.write("changed", damaged);
    const std::string message = test::refusal([&] { PackedFile file(path); });
    return message.substr(0, path.size()) == path ? message.substr(path.size()) : "no path: " + message;
  };
  const auto put = [&](std::string& damaged, std::size_t section, std::size_t index, auto value) {
    std::memcpy(damaged.data() + header.sections[section].offset + index * sizeof(value), &value, sizeof(value));
  };
  using H = PackedHeader;
  using S = std::string;
  const auto has = [](const std::string& message, const char* words) {
    CAPTURE(message, words);
    CHECK(message.find(words) != std::string::npos);
  };
  CHECK(message_after([](H&, S&) {}) == "no path: ");
  has(message_after([](H& h, S&) { h.version = 2; }), "format version 2, and this program reads version 1");
  has(message_after([](H& h, S&) { h.magic[0] = 'X'; }), "not a packed token file");
  has(message_after([](H& h, S&) { h.file_bytes += 64; }), "it was cut off");
  has(message_after([](H& h, S&) { h.tokens = ~std::uint64_t{0} / 4; }), "counts do not fit");
  has(message_after([](H& h, S&) { h.documents += 1; }), "section document_starts");
  has(message_after([](H& h, S&) { h.sections[1].offset += 64; }), "section tokens");
  has(message_after([](H& h, S&) { h.sections[0].bytes = ~std::uint64_t{0} - 100; }), "section metadata");
  has(message_after([&](H&, S& b) { put(b, 0, 0, '['); }), "section metadata");
  has(message_after([&](H&, S& b) { put(b, 1, 3, std::int32_t{vocabulary}); }), "token 3 has id 100 outside");
  has(message_after([&](H&, S& b) { put(b, 1, 0, std::int32_t{-1}); }), "token 0 has id -1 outside");
  has(message_after([&](H&, S& b) { put(b, 2, 0, std::uint8_t{2}); }), "section labelled");
  has(message_after([&](H&, S& b) { put(b, 3, 1, std::uint64_t{0}); }), "document_starts do not rise");
  has(message_after([&](H& h, S& b) { put(b, 3, h.documents, h.tokens + 1); }), "document_starts do not rise");
  has(message_after([&](H&, S& b) { put(b, 4, 0, std::uint64_t{1}); }), "sequence_starts do not rise");
  has(message_after([&](H& h, S& b) {
        const auto text = b.find("\"sequence\": 12");
        REQUIRE(text < h.sections[1].offset);
        b.replace(text, 14, "\"sequence\": 1 ");
      }),
      "more than 1");
}

}  // namespace
}  // namespace caravan
