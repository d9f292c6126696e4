// SPDX-License-Identifier: Apache-2.0
// Held-out loss and generation at every layout against one document at a time in a world of one.
#include <ATen/core/grad_mode.h>

#include "data/packed_file.hpp"
#include "evaluate/compare.hpp"
#include "evaluate/generation.hpp"
#include "evaluate/held_out.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/model/small_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/model_on_grid.hpp"

namespace caravan::tests {
namespace {

/// Documents of 2 to 12 tokens, several to a sequence; about every second token is labelled.
data::Document document(std::int64_t number) {
  const auto drawn = [&](std::int64_t t) { return core::mix64(static_cast<std::uint64_t>(1000 * number + t)) >> 8; };
  data::Document result;
  for (std::int64_t t = 0; t < 2 + number * 5 % 11; ++t) {
    result.tokens.push_back(static_cast<std::int32_t>(drawn(t) % static_cast<std::uint64_t>(small_spec().vocabulary)));
    result.labelled.push_back(drawn(t) / 64 % 2 == 0 ? 1 : 0);
  }
  return result;
}

std::string write_packed(const test::ScratchFolder& folder) {
  data::PackedMetadata metadata;
  metadata.template_name = "idae";
  metadata.packing = "simple";
  metadata.sequence = 16;
  metadata.vocabulary = small_spec().vocabulary;
  metadata.part = "held_out";
  data::PackedWriter writer(metadata);
  for (std::int64_t number = 0; number < 11; ++number) writer.add(document(number));
  std::string path = (folder / "held_out.bin").string();
  io::AtomicFile file(path);
  writer.write(file);
  file.commit();
  return path;
}

/// fp32 logits [length, V] of a text as one document.
at::Tensor logits_of(const parallel::Context& context, const model::Decoder& decoder,
                     const std::vector<std::int32_t>& text) {
  const at::NoGradGuard no_grad;
  data::TokenBatch batch;
  batch.tokens = text;
  for (std::size_t t = 0; t < text.size(); ++t) {
    batch.positions.push_back(static_cast<std::int32_t>(t));
    batch.sequence.push_back(0);
    batch.identity.push_back(t);
  }
  batch.document_starts.push_back(static_cast<std::int64_t>(text.size()));
  const parallel::TokenAxis axis(parallel::token_rows(batch), context);
  const model::Pass pass{axis};
  return decoder.logits(decoder.forward(pass), at::arange(axis.real, at::kLong));
}

struct Naive {
  double sum = 0;
  std::int64_t targets = 0;
};

/// Document by document in the file's order, probabilities in fp64.
Naive naive_loss(const parallel::Context& alone, const model::Decoder& decoder, const data::PackedFile& file,
                 std::int64_t sequences) {
  Naive naive;
  const auto last = file.sequence_starts()[static_cast<std::size_t>(sequences)];
  for (std::uint64_t d = 0; d < last; ++d) {
    const auto begin = file.document_starts()[d], end = file.document_starts()[d + 1];
    const std::vector<std::int32_t> text(file.tokens().begin() + static_cast<std::ptrdiff_t>(begin),
                                         file.tokens().begin() + static_cast<std::ptrdiff_t>(end));
    const at::Tensor log_p = logits_of(alone, decoder, text).to(at::kDouble).log_softmax(1);
    for (std::size_t t = 1; t < text.size(); ++t) {
      if (!file.labelled()[begin + t]) continue;
      naive.sum -= log_p[static_cast<std::int64_t>(t) - 1][text[t]].item<double>();
      ++naive.targets;
    }
  }
  return naive;
}

template <typename Work>
void at_layouts(const std::vector<std::pair<int, int>>& grids, const Work& work) {
  for (const auto& [tp, ep] : grids) {
    CAPTURE(tp, ep);
    OnGrid grid(tp, ep);
    const RandomModel model(grid.context, small_spec());
    work(grid, *model.decoder);
  }
}

const std::vector<std::int32_t> prompt{1, 17, 5, 23, 9};

}  // namespace

TEST_CASE("held-out loss is the mean over response tokens at every layout and micro-batch") {
  start_kernels();
  const test::ScratchFolder folder;
  const data::PackedFile file(write_packed(folder));
  REQUIRE(file.sequences() >= 5);
  const Alone one;
  const RandomModel model(one.context, small_spec());
  at_layouts(layouts(comm::make_world(60)->size(), 4), [&](OnGrid& grid, const model::Decoder& decoder) {
    for (const std::int64_t samples : {std::int64_t{1000}, file.sequences() - 2, std::int64_t{1}}) {
      const std::int64_t sequences = std::min(samples, file.sequences());
      const Naive naive = naive_loss(one.context, *model.decoder, file, sequences);
      REQUIRE(naive.targets > 0);
      for (const std::int64_t micro_batch : {1, 3}) {
        CAPTURE(samples, micro_batch);
        // The larger micro-batch goes to its experts in rounds of four rows.
        const std::int64_t rows = micro_batch == 3 ? 4 : 1 << 20;
        grid.context.exchange_bytes = rows * small_spec().hidden * static_cast<std::int64_t>(sizeof(float));
        const auto got = *evaluate::held_out_loss(grid.context, decoder, file, {samples, micro_batch});
        CHECK(got.sequences == sequences);
        CHECK(got.targets == naive.targets);
        // Logits of order one with fp32 errors of 1e-6, and losses of about four.
        CHECK(got.loss == Approx(naive.sum / static_cast<double>(naive.targets)).epsilon(2e-6));
        // The same bits on every rank.
        comm::Communicator& world = *grid.groups.world;
        CHECK(world.all_reduce("largest loss", got.loss, comm::Reduce::max) == got.loss);
        CHECK(-world.all_reduce("smallest loss", -got.loss, comm::Reduce::max) == got.loss);
      }
    }
  });
}

TEST_CASE("generation and comparison send no more rows at a time than the context allows") {
  const int world = comm::make_world(60)->size();
  if (world == 1) return;  // nothing travels
  at_layouts({{1, world}}, [&](OnGrid& grid, const model::Decoder& decoder) {
    const auto messages = [&](const auto& work) {
      const auto calls = [&] {
        const auto found = grid.groups.ep->traffic().find("dispatch tokens");
        return found == grid.groups.ep->traffic().end() ? std::int64_t{0} : std::int64_t{found->second.calls};
      };
      const std::int64_t before = calls();
      work();
      return calls() - before;
    };
    const auto generate = [&] { evaluate::generate_greedily(grid.context, decoder, prompt, 1, {}); };
    const auto compare = [&] {
      evaluate::run_texts(grid.context, decoder, {prompt}, [](std::size_t, std::int64_t, const at::Tensor&) {});
    };
    CHECK(messages(generate) == small_spec().layers);
    CHECK(messages(compare) == small_spec().layers);
    grid.context.exchange_bytes = 1;  // a row at a time
    CHECK(messages(generate) > small_spec().layers);
    CHECK(messages(compare) > small_spec().layers);
  });
}

TEST_CASE("the greedy answer is the most likely token after the text, at every layout") {
  start_kernels();
  const Alone one;
  const RandomModel model(one.context, small_spec());
  std::vector<std::int32_t> text = prompt, expected;
  for (int n = 0; n < 7; ++n) {
    const at::Tensor last = logits_of(one.context, *model.decoder, text)[static_cast<std::int64_t>(text.size()) - 1];
    const auto [best, tokens] = last.topk(2);
    // Other layouts differ by 1e-6: no tie that they could break otherwise.
    REQUIRE((best[0] - best[1]).item<double>() > 1e-4);
    expected.push_back(tokens[0].item<std::int32_t>());
    text.push_back(expected.back());
  }
  const std::int32_t absent = -1;
  // The end token stops the answer where it first comes, and is not part of it.
  const std::int32_t end = expected[4];
  const auto first = static_cast<std::ptrdiff_t>(std::find(expected.begin(), expected.end(), end) - expected.begin());
  const std::vector<std::int32_t> until_end(expected.begin(), expected.begin() + first);
  at_layouts(few_layouts(comm::make_world(60)->size()), [&](OnGrid& grid, const model::Decoder& decoder) {
    const auto generate = [&](std::int64_t most, std::int32_t stop) {  // one of two
      return evaluate::generate_greedily(grid.context, decoder, prompt, most, {absent, stop});
    };
    CHECK(generate(7, absent) == expected);
    CHECK(generate(2, absent) == std::vector<std::int32_t>(expected.begin(), expected.begin() + 2));
    CHECK(generate(7, end) == until_end);
    CHECK(generate(0, absent).empty());
    CHECK(generate(7, expected[0]).empty());
  });
}

}  // namespace caravan::tests
