// SPDX-License-Identifier: Apache-2.0
// One line says all that does not fit, and what it offers does fit: compared with trying every layout.
#include "family/layout_check.hpp"

#include <regex>

#include "core/error.hpp"
#include "core/text.hpp"
#include "tests/family/published_models.hpp"
#include "tests/support/catch.hpp"

using namespace caravan::family;
using caravan::layout::Options;
using Batch = std::optional<BatchSplit>;

namespace {

/// The message of the refusal, or "" when the layout fits.
std::string message(const ModelSpec& spec, int world, const Options& layout, const Batch& batch) {
  try {
    require_layout(spec, world, layout, batch);
  } catch (const caravan::core::Error& error) {
    REQUIRE(error.code() == caravan::core::ExitCode::bad_input);
    return error.what();
  }
  return "";
}

ModelSpec model(std::int64_t heads, std::int64_t kv_heads, std::int64_t vocabulary, std::int64_t ffn,
                std::int64_t experts) {
  ModelSpec spec = llama_2_7b();
  spec.heads = heads;
  spec.kv_heads = kv_heads;
  spec.vocabulary = vocabulary;
  spec.ffn = ffn;
  if (experts > 0) spec.pesc = Pesc{experts, 1, 8, 1.0};
  return spec;
}

/// By the words of the manual: what each number is divided by.
bool fits(const ModelSpec& spec, std::int64_t world, std::int64_t tp, std::int64_t ep, const Batch& batch) {
  for (const std::int64_t size : {world, spec.heads, spec.kv_heads, spec.ffn}) {
    if (size % tp != 0) return false;
  }
  if (world % ep != 0 || (spec.pesc ? spec.pesc->experts % ep != 0 : ep != 1)) return false;
  return !batch || batch->batch % (world / tp * batch->micro_batch) == 0;
}

std::vector<std::int64_t> numbers_in(const std::string& text) {
  std::vector<std::int64_t> numbers;
  const std::regex digits("[0-9]+");
  for (std::sregex_iterator it(text.begin(), text.end(), digits), end; it != end; ++it) {
    numbers.push_back(std::stoll(it->str()));
  }
  return numbers;
}

/// What stands behind `before`, as far as `pattern` goes.
std::string part(const std::string& text, const std::string& before, const std::string& pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(before + "(" + pattern + ")")) ? match[1].str() : "";
}

/// Holds what a refusal offers against trying every layout. Returns how many offers it looked at.
int check_offers(const ModelSpec& spec, int world, const Options& layout, const Batch& batch, const std::string& text) {
  int offers = 0;
  const std::string numbers = "[0-9, or]+";
  // Every "layouts that fit N ranks".
  const std::regex layouts("layouts that fit ([0-9]+) ranks?: tp (" + numbers + ") with ep (" + numbers + ")");
  for (std::sregex_iterator it(text.begin(), text.end(), layouts), end; it != end; ++it) {
    const std::int64_t ranks = std::stoll((*it)[1].str());
    const auto tps = numbers_in((*it)[2].str()), eps = numbers_in((*it)[3].str());
    std::vector<std::int64_t> tp_that_fit, ep_that_fit;
    for (std::int64_t tp = 1; tp <= ranks; ++tp) {
      const Batch by_one = batch ? Batch({batch->batch, 1}) : batch;
      if (fits(spec, ranks, tp, 1, by_one)) tp_that_fit.push_back(tp);
    }
    for (std::int64_t ep = 1; ep <= ranks; ++ep) {
      if (fits(spec, ranks, 1, ep, {})) ep_that_fit.push_back(ep);
    }
    CHECK(tps == tp_that_fit);
    CHECK(eps == ep_that_fit);
    if (ranks == world) offers += 100;
    ++offers;
  }
  // The micro-batches, where several tp fit these ranks: the greatest of each.
  const std::string of_world = text.substr(0, text.find("no layout fits"));
  const std::regex micro_at("([0-9]+) at tp ([0-9]+)");
  for (std::sregex_iterator it(of_world.begin(), of_world.end(), micro_at), end; it != end; ++it) {
    const std::int64_t most = std::stoll((*it)[1].str()), tp = std::stoll((*it)[2].str());
    CHECK(fits(spec, world, tp, 1, BatchSplit{batch->batch, most}));
    CHECK(most * (world / tp) == batch->batch);
    ++offers;
  }
  // What would let this layout be.
  for (const std::int64_t ranks : numbers_in(part(text, "this layout fits ", numbers + " ranks?"))) {
    CHECK(fits(spec, ranks, layout.tp, layout.ep, batch));
    ++offers;
  }
  for (const std::int64_t other : numbers_in(part(text, "this layout fits .*train.batch ", numbers))) {
    CHECK(fits(spec, world, layout.tp, layout.ep, BatchSplit{other, batch->micro_batch}));
    ++offers;
  }
  std::smatch match;
  const std::regex other_batch("; train.batch (" + numbers + ") fits [0-9]+ ranks? with tp ([0-9]+)");
  if (std::regex_search(text, match, other_batch)) {
    for (const std::int64_t other : numbers_in(match[1].str())) {
      CHECK(fits(spec, world, std::stoll(match[2].str()), 1, BatchSplit{other, batch->micro_batch}));
      ++offers;
    }
  }
  return offers;
}

}  // namespace

TEST_CASE("every layout of small jobs is judged as by trying, and refusals offer what fits") {
  const std::vector<ModelSpec> models{model(4, 2, 97, 64, 4), model(12, 12, 48, 24, 6), model(6, 3, 100, 15, 0),
                                      model(8, 8, 64, 64, 1)};
  int refused = 0, with_layouts = 0;
  for (const ModelSpec& spec : models) {
    for (const int world : {1, 2, 3, 4, 6, 7, 8, 12}) {
      for (const Batch& batch : {Batch(), Batch({8, 1}), Batch({9, 3}), Batch({12, 2}), Batch({5, 5})}) {
        for (int tp = 1; tp <= world + 1; ++tp) {
          for (int ep = 1; ep <= world + 1; ++ep) {
            const std::string text = message(spec, world, {tp, ep}, batch);
            CAPTURE(world, tp, ep, text);
            CHECK(text.empty() == fits(spec, world, tp, ep, batch));
            if (text.empty()) continue;
            ++refused;
            CHECK(text.find('\n') == std::string::npos);
            const int offers = check_offers(spec, world, {tp, ep}, batch, text);
            CHECK(offers > 0);
            with_layouts += offers >= 100;
          }
        }
      }
    }
  }
  CHECK(refused > with_layouts);  // there were jobs that no layout fits
  CHECK(with_layouts > 1000);
}

TEST_CASE("a refusal names every number that does not fit, and every layout that does") {
  const ModelSpec llama = crafted(llama_2_7b(), {8, 2, 512, 0.25}, {});
  const ModelSpec yi = crafted(yi_34b(), {8, 2, 512, 0.25}, {});
  CHECK(message(yi, 48, {16, 3}, {}) ==
        "layout.tp = 16 does not divide attention heads 56 and key-value heads 8; layout.ep = 3 does not divide 8 "
        "experts; layouts that fit 48 ranks: tp 1, 2, 4 or 8 with ep 1, 2, 4 or 8");
  CHECK(
      message(yi, 6, {3, 4}, BatchSplit{128, 1}) ==
      "layout.tp = 3 does not divide attention heads 56, key-value heads 8 and feed-forward size 20480; layout.ep = 4 "
      "does not divide the 6 ranks of this job; no layout fits 6 ranks with train.batch = 128; "
      "layouts that fit 4 ranks: tp 1, 2 or 4 with ep 1, 2 or 4 (train.micro_batch a divisor of 32 at tp 1, 64 at tp "
      "2 and 128 at tp 4); layouts that fit 8 ranks: tp 1, 2, 4 or 8 with ep 1, 2, 4 or 8 (train.micro_batch a "
      "divisor of 16 at tp 1, 32 at tp 2, 64 at tp 4 and 128 at tp 8); train.batch 126 or 129 fits 6 ranks with tp 2");
  CHECK(message(llama, 12, {8, 1}, {}) ==
        "layout.tp = 8 does not divide the 12 ranks of this job; layouts that fit 12 ranks: tp 1, 2 or 4 with ep 1, 2 "
        "or 4; this layout fits 8 or 16 ranks");
  CHECK(message(llama, 1, {2, 1}, BatchSplit{8, 2}) ==
        "layout.tp = 2 does not divide the 1 rank of this job; layouts that fit 1 rank: tp 1 with ep 1 "
        "(train.micro_batch 1, 2, 4 or 8); this layout fits 2 ranks");
  CHECK(message(llama, 16, {2, 8}, BatchSplit{100, 3}) ==
        "train.batch = 100 is no multiple of 8 data-parallel ranks × train.micro_batch = 3; layouts that fit 16 ranks: "
        "tp 4, 8 or 16 with ep 1, 2, 4 or 8 (train.micro_batch a divisor of 25 at tp 4, 50 at tp 8 and 100 at tp 16); "
        "this layout fits train.batch 96 or 120");
}

TEST_CASE("three complaints stand in one line, and a batch alone names what fits") {
  const ModelSpec spec = model(4, 4, 96, 64, 6);
  CHECK(message(spec, 8, {8, 4}, BatchSplit{9, 2}) ==
        "layout.tp = 8 does not divide attention heads 4 and key-value heads 4; layout.ep = 4 does not divide 6 "
        "experts; train.batch = 9 is no multiple of 1 data-parallel rank × train.micro_batch = 2; no layout fits 8 "
        "ranks with train.batch = 9; layouts that fit 6 ranks: tp 2 with ep 1, 2, 3 or 6 (train.micro_batch 1 or 3); "
        "layouts that fit 9 ranks: tp 1 with ep 1 or 3 (train.micro_batch 1); train.batch 8 or 12 fits 8 ranks with tp "
        "4");
  CHECK(message(spec, 2, {1, 1}, BatchSplit{8, 8}) ==
        "train.batch = 8 is no multiple of 2 data-parallel ranks × train.micro_batch = 8; layouts that fit 2 ranks: tp "
        "1 or 2 with ep 1 or 2 (train.micro_batch a divisor of 4 at tp 1 and 8 at tp 2); this layout fits 1 rank, or "
        "train.batch 16");
}

TEST_CASE("a dense model has ep 1 alone, and one expert says so itself") {
  CHECK(message(llama_2_7b(), 4, {4, 1}, {}).empty());
  CHECK(message(llama_2_7b(), 4, {1, 2}, {}) ==
        "layout.ep = 2 is for experts, which this model does not have; layouts that fit 4 ranks: tp 1, 2 or 4 with ep "
        "1");
  CHECK(message(crafted(llama_2_7b(), {1, 1, 8, 1.0}, {}), 4, {1, 2}, {}) ==
        "layout.ep = 2 does not divide 1 expert; layouts that fit 4 ranks: tp 1, 2 or 4 with ep 1");
}

TEST_CASE("numbers beyond the ranks do not wrap around") {
  const ModelSpec spec = crafted(llama_2_7b(), {8, 2, 512, 0.25}, {});
  constexpr std::int64_t most = 1 << 20;  // what [layout] takes
  const std::string text = message(spec, 4, {most, most - 1}, BatchSplit{1 << 24, 1});
  CHECK(text.find("layout.tp = 1048576 does not divide the 4 ranks of this job, attention heads 32") == 0);
  CHECK(
      text.find("layout.ep = 1048575 does not divide the 4 ranks of this job and 8 experts; layouts that fit 4 ranks: "
                "tp 1, 2 or 4 with ep 1, 2 or 4 (") != std::string::npos);
}

TEST_CASE("with many layouts the message stays one readable line") {
  const ModelSpec spec = model(5040, 5040, 5040, 5040, 5040);  // 60 divisors
  const std::string text = message(spec, 5040, {11, 1}, BatchSplit{5040, 1});
  CHECK(text.size() < 700);
  CHECK(text.find("tp 1, 2, 3, 4, 5, 6, 7, 8 … 5040 (60 numbers) with ep 1, 2, 3, 4, 5, 6, 7, 8 … 5040 (60 numbers) "
                  "(train.micro_batch a divisor of 1 at tp 1, 2 at tp 2, ") != std::string::npos);
}
