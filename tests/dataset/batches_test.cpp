// SPDX-License-Identifier: Apache-2.0
#include "data/batches.hpp"

#include <set>

#include "core/error.hpp"
#include "core/random.hpp"
#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

using data::Batches;
using data::BatchOptions;
using data::Document;
using data::GlobalBatch;
using data::PackedFile;
using data::Position;
using data::TokenBatch;

constexpr std::int64_t vocabulary = 1000;

/// A file in which a token's id tells its document and place: id = 10 · document + place.
std::string write_file(const test::TemporaryFolder& folder, std::int64_t documents, const std::string& packing) {
  data::PackedMetadata metadata;
  metadata.packing = packing;
  metadata.sequence = 12;
  metadata.vocabulary = vocabulary;
  data::PackedWriter writer(metadata);
  for (std::int64_t d = 0; d < documents; ++d) {
    Document document;
    const auto length = static_cast<std::int64_t>(1 + core::mix64(static_cast<std::uint64_t>(d)) % 8);
    for (std::int64_t t = 0; t < length; ++t) {
      document.tokens.push_back(static_cast<std::int32_t>(10 * d + t));
      document.labelled.push_back(t >= length / 2);  // of a document with one token, the first: not a target
    }
    writer.add(document);
  }
  std::string path = folder / "packed";
  io::AtomicFile file(path);
  writer.write(file);
  file.commit();
  return path;
}

/// What TokenBatch promises of one sequence, token by token, written down naively.
void check_row(const PackedFile& file, const data::Sample& sample, const TokenBatch& batch, std::int32_t row,
               std::size_t& at, std::size_t& document) {
  std::uint32_t place = 0;
  const auto s = static_cast<std::size_t>(sample.sequence);
  for (auto d = file.sequence_starts()[s]; d < file.sequence_starts()[s + 1]; ++d) {
    const auto begin = file.document_starts()[d], end = file.document_starts()[d + 1];
    CHECK(batch.document_starts.at(document) == static_cast<std::int64_t>(at));
    for (auto t = begin; t < end; ++t, ++at, ++place) {
      CHECK(batch.tokens.at(at) == file.tokens()[t]);
      const bool target = t + 1 < end && file.labelled()[t + 1] == 1;
      CHECK(batch.targets.at(at) == (target ? file.tokens()[t + 1] : -100));
      CHECK(batch.positions.at(at) == static_cast<std::int32_t>(t - begin));
      CHECK(batch.sequence.at(at) == row);
      CHECK(batch.identity.at(at) == core::token_identity(sample.ordinal, place));
    }
    ++document;
    CHECK(batch.document_starts.at(document) == static_cast<std::int64_t>(at));
  }
}

TEST_CASE("every split of a batch gives the same samples and identities, each once") {
  test::TemporaryFolder folder;
  for (const std::string packing : {"none", "simple"}) {
    const PackedFile file(write_file(folder, 50, packing));
    const std::int64_t batch = 12;
    for (const std::int64_t dp : {1, 2, 3, 4, 6, 12}) {
      for (const std::int64_t micro : {1, 2, 3, 12}) {
        if (batch % (dp * micro) != 0) continue;
        Batches batches(file, {.seed = 7, .batch = batch, .micro_batch = micro, .dp_size = dp});
        CHECK(batches.accumulation() == batch / (dp * micro));
        Batches whole(file, {.seed = 7, .batch = batch, .micro_batch = batch, .dp_size = 1});
        Position position, whole_position;
        while (position.epoch < 2) {
          const GlobalBatch global = batches.next(position);
          const GlobalBatch same = whole.next(whole_position);
          REQUIRE(position == whole_position);
          REQUIRE(global.samples.size() == same.samples.size());
          std::int64_t tokens = 0, targets = 0;
          std::size_t sample = 0;
          // In the order of the batch: micro-steps, then ranks in them.
          for (std::int64_t m = 0; m < batches.accumulation(); ++m) {
            for (std::int64_t rank = 0; rank < dp; ++rank) {
              const TokenBatch part = batches.micro_batch(global, m, rank);
              std::size_t at = 0, document = 0;
              for (std::int32_t row = 0; row < micro && sample < global.samples.size(); ++row, ++sample) {
                CHECK(global.samples[sample].ordinal == same.samples[sample].ordinal);
                CHECK(global.samples[sample].sequence == same.samples[sample].sequence);
                check_row(file, global.samples[sample], part, row, at, document);
              }
              CHECK(part.tokens.size() == at);
              CHECK(part.document_starts.size() == document + 1);
              tokens += static_cast<std::int64_t>(at);
              targets += std::count_if(part.targets.begin(), part.targets.end(), [](auto id) { return id != -100; });
            }
          }
          CHECK(sample == global.samples.size());
          CHECK(global.tokens == tokens);
          CHECK(global.targets == targets);
        }
      }
    }
  }
}

TEST_CASE("each epoch and seed has its own permutation, and the last batch holds the rest") {
  test::TemporaryFolder folder;
  const PackedFile file(write_file(folder, 50, "none"));
  const std::int64_t n = file.sequences(), batch = 8;
  REQUIRE(n % batch != 0);
  const auto epochs = [&](std::uint64_t seed, bool shuffle) {
    Batches batches(file, {.seed = seed, .shuffle = shuffle, .batch = batch, .micro_batch = batch});
    std::vector<std::vector<std::int64_t>> orders(3);
    Position position;
    std::uint64_t ordinal = 0;
    while (position.epoch < 3) {
      const Position before = position;
      const GlobalBatch global = batches.next(position);
      CHECK(static_cast<std::int64_t>(global.samples.size()) == std::min(batch, n - before.index));
      for (const auto& sample : global.samples) {
        CHECK(sample.ordinal == ordinal++);
        orders[static_cast<std::size_t>(before.epoch)].push_back(sample.sequence);
      }
    }
    for (const auto& order : orders) {
      CHECK(static_cast<std::int64_t>(order.size()) == n);
      CHECK(std::set<std::int64_t>(order.begin(), order.end()).size() == order.size());
    }
    return orders;
  };
  const auto orders = epochs(1, true), others = epochs(2, true), plain = epochs(1, false);
  CHECK(orders == epochs(1, true));
  CHECK(orders[0] != orders[1]);
  CHECK(orders[1] != orders[2]);
  CHECK(orders[0] != others[0]);
  for (const auto& order : plain) CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("a shuffled order is spread evenly over all places") {
  // Where sequence 0 lands over 400 seeds: 10 places, expectation 40 each, standard deviation 6; 5 of them either way.
  test::TemporaryFolder folder;
  const PackedFile file(write_file(folder, 10, "none"));
  std::vector<int> landed(10, 0);
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Batches batches(file, {.seed = seed, .batch = 10, .micro_batch = 10});
    Position position;
    const auto samples = batches.next(position).samples;
    for (std::size_t i = 0; i < samples.size(); ++i) landed[i] += samples[i].sequence == 0;
  }
  for (const int count : landed) {
    CHECK(count > 10);
    CHECK(count < 70);
  }
}

TEST_CASE("going on at a position equals never having stopped") {
  test::TemporaryFolder folder;
  const PackedFile file(write_file(folder, 23, "simple"));
  const BatchOptions options{.seed = 3, .batch = 4, .micro_batch = 2, .dp_size = 2};
  Batches running(file, options);
  Position position;
  while (position.epoch < 3) {
    Position resumed = position;
    Batches fresh(file, options);
    const GlobalBatch expected = running.next(position), actual = fresh.next(resumed);
    CHECK(resumed == position);
    REQUIRE(actual.samples.size() == expected.samples.size());
    for (std::size_t i = 0; i < actual.samples.size(); ++i) {
      CHECK(actual.samples[i].sequence == expected.samples[i].sequence);
      CHECK(actual.samples[i].ordinal == expected.samples[i].ordinal);
    }
  }
}

TEST_CASE("other files' positions and empty files are refused; uneven batches are a defect") {
  test::TemporaryFolder folder;
  const PackedFile file(write_file(folder, 20, "none"));
  const auto ends_with = [&](std::int64_t batch, std::int64_t micro, std::int64_t dp) {
    try {
      const Batches batches(file, {.batch = batch, .micro_batch = micro, .dp_size = dp});
      CHECK(batches.accumulation() == batch / micro / dp);
    } catch (const core::Error& error) {
      return error.code();
    }
    return core::ExitCode::done;
  };
  CHECK(ends_with(12, 2, 3) == core::ExitCode::done);
  CHECK(ends_with(100, 3, 8) == core::ExitCode::internal);
  CHECK(ends_with(2, 1, 8) == core::ExitCode::internal);
  CHECK(ends_with(12, 4, 2) == core::ExitCode::internal);
  constexpr std::int64_t huge = std::int64_t{1} << 40;  // its products do not fit 64 bits
  CHECK(ends_with(huge, huge, huge) == core::ExitCode::internal);
  Batches batches(file, {});
  for (Position wrong : {Position{0, 20}, Position{0, -1}, Position{-1, 0}}) {
    CHECK(test::refusal([&] { batches.next(wrong); }).find("holds 20 sequences") != std::string::npos);
  }
  const PackedFile empty(write_file(folder, 0, "none"));
  CHECK(test::refusal([&] { Batches(empty, {}); }).find("holds no sequence") != std::string::npos);
}

}  // namespace
}  // namespace caravan
