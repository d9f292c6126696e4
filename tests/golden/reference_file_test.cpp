// SPDX-License-Identifier: Apache-2.0
// The reference models' logits through the files that verify reads, in every form that it takes, at every layout; and
// files that it must not take.
#include "evaluate/reference_file.hpp"

#include "core/error.hpp"
#include "tests/golden/every_layout.hpp"
#include "tests/io/scratch_folder.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fixtures.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

std::string write(const test::ScratchFolder& folder, const Tensors& tensors) {
  static int count = 0;
  std::string path = (folder / ("reference-" + std::to_string(count++) + ".safetensors")).string();
  std::vector<at::Tensor> values;
  std::vector<io::SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    values.push_back(tensor.contiguous());
    entries.push_back({name, tensor.sizes().vec(), parallel::dtype_of(tensor.scalar_type()), values.back().data_ptr()});
  }
  io::write_safetensors(path, entries);
  return path;
}

evaluate::LogitDifference compare(const ModelOnGrid& model, const evaluate::ReferenceFile& file) {
  return evaluate::compare_logits(
      model.context, *model.decoder, file.texts(),
      [&](std::size_t text, std::int64_t first, std::int64_t rows) { return file.logits(text, first, rows); });
}

bool is_same(const ModelOnGrid& model, const evaluate::LogitDifference& difference) {
  INFO(difference.describe());
  const bool same = evaluate::within(difference, evaluate::same_weights(difference, model.spec.layers));
  CHECK(same);
  return same;
}

Tensors padded_case() {
  const io::SafetensorsFile file(fixtures() / "camelidae-tiny" / "expected_padded.safetensors");
  Tensors tensors;
  for (const char* name : {"input_ids", "attention_mask", "logits"}) tensors[name] = read_tensor(file, name);
  return tensors;
}

}  // namespace

TEST_CASE("the reference models are the same as their references") {
  for (const auto& [model, file] : std::vector<std::pair<std::string, std::string>>{
           {"llama-tiny", "expected_logits"}, {"camelidae-tiny", "expected"}, {"camelidae-tiny", "expected_padded"}}) {
    const std::filesystem::path folder = fixtures() / model;
    at_every_layout(folder, [&, &name = file](const ModelOnGrid& on_grid) {
      const evaluate::ReferenceFile reference((folder / (name + ".safetensors")).string(), on_grid.spec.vocabulary);
      const evaluate::LogitDifference difference = compare(on_grid, reference);
      is_same(on_grid, difference);
      CHECK(difference.agreement() == 1);
      CHECK_FALSE(reference.is_rounded());
    });
  }
}

TEST_CASE("padding may stand on either side, and what it holds does not matter") {
  const test::ScratchFolder folder;
  const Tensors right = padded_case();
  const std::int64_t real = right.at("attention_mask").sum().item<std::int64_t>();
  REQUIRE(real < right.at("attention_mask").numel());
  Tensors left = right;
  for (const char* name : {"input_ids", "attention_mask", "logits"}) left[name] = right.at(name).clone();
  for (std::int64_t row = 0; row < right.at("input_ids").size(0); ++row) {
    const std::int64_t length = right.at("attention_mask")[row].sum().item<std::int64_t>();
    const std::int64_t shift = right.at("input_ids").size(1) - length;
    for (const char* name : {"input_ids", "attention_mask", "logits"})
      left[name][row] = right.at(name)[row].roll(shift, 0);
    if (shift > 0) left["logits"][row].narrow(0, 0, shift).fill_(NAN);
  }
  at_every_layout(fixtures() / "camelidae-tiny", [&](const ModelOnGrid& model) {
    const evaluate::ReferenceFile file(write(folder, left), model.spec.vocabulary);
    const evaluate::LogitDifference difference = compare(model, file);
    CHECK(difference.positions == real);
    is_same(model, difference);
  });
}

TEST_CASE("ids and masks of other integer types, and logits of 16 bits, are read") {
  const test::ScratchFolder folder;
  Tensors tensors = padded_case();
  tensors["input_ids"] = tensors["input_ids"].to(at::kInt);
  tensors["attention_mask"] = tensors["attention_mask"].to(at::kByte);
  at_every_layout(fixtures() / "camelidae-tiny", [&](const ModelOnGrid& model) {
    is_same(model, compare(model, evaluate::ReferenceFile(write(folder, tensors), model.spec.vocabulary)));
    for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
      Tensors rounded = tensors;
      rounded["logits"] = rounded["logits"].to(type);
      const evaluate::ReferenceFile file(write(folder, rounded), model.spec.vocabulary);
      CHECK(file.is_rounded());
      const evaluate::LogitDifference difference = compare(model, file);
      CHECK_FALSE(evaluate::within(difference, evaluate::same_weights(difference, model.spec.layers)));
      CHECK(evaluate::within(difference, evaluate::rounded_weights(difference)));
    }
  });
}

TEST_CASE("another model is a difference") {
  const std::filesystem::path folder = fixtures() / "camelidae-tiny";
  at_every_layout(fixtures() / "llama-tiny", [&](const ModelOnGrid& model) {
    const evaluate::ReferenceFile file((folder / "expected.safetensors").string(), model.spec.vocabulary);
    const evaluate::LogitDifference difference = compare(model, file);
    CHECK_FALSE(evaluate::within(difference, evaluate::same_weights(difference, model.spec.layers)));
    CHECK_FALSE(evaluate::within(difference, evaluate::rounded_weights(difference)));
  });
}

TEST_CASE("files that do not fit are refused by name, tensor and place") {
  const test::ScratchFolder folder;
  const std::int64_t vocabulary = padded_case().at("logits").size(2);
  const auto refused = [&](const Tensors& tensors, const std::vector<std::string>& parts, std::int64_t tokens) {
    const std::string path = write(folder, tensors);
    std::string message = "no error";
    try {
      const evaluate::ReferenceFile file(path, tokens);
    } catch (const core::Error& error) {
      CHECK(error.code() == core::ExitCode::bad_input);
      message = error.what();
    }
    INFO(message);
    CHECK(message.starts_with(path + ": "));
    for (const std::string& part : parts) {
      INFO(part);
      CHECK(message.find(part) != std::string::npos);
    }
  };
  /// The padded case with one tensor changed, or left out when it is undefined.
  const auto with = [](const char* name, const at::Tensor& value) {
    Tensors tensors = padded_case();
    for (auto& [key, tensor] : tensors) tensor = tensor.clone();
    tensors.erase(name);
    if (value.defined()) tensors[name] = value;
    return tensors;
  };
  const Tensors good = padded_case();
  const at::Tensor ids = good.at("input_ids"), mask = good.at("attention_mask"), logits = good.at("logits");
  for (const char* name : {"input_ids", "logits"}) refused(with(name, {}), {"no tensor", name}, vocabulary);
  refused(with("input_ids", ids.flatten()), {"input_ids", "[B, S]"}, vocabulary);
  refused(with("input_ids", ids.to(at::kFloat)), {"tensor input_ids", "float32", "int64"}, vocabulary);
  refused(with("logits", logits.to(at::kLong)), {"tensor logits", "int64", "no floating type"}, vocabulary);
  refused(with("logits", logits.narrow(1, 1, 2)), {"tensor logits", "its shape is", "input_ids"}, vocabulary);
  refused(good, {"tensor logits", "is over " + std::to_string(vocabulary), std::to_string(vocabulary + 8)},
          vocabulary + 8);
  refused(with("attention_mask", mask.narrow(0, 0, 1)), {"tensor attention_mask", "its shape is"}, vocabulary);

  const auto changed = [](const at::Tensor& tensor, std::int64_t row, std::int64_t position, std::int64_t value) {
    at::Tensor other = tensor.clone();
    other[row][position] = value;
    return other;
  };
  for (const std::int64_t id : {std::int64_t{-1}, vocabulary, std::int64_t{1} << 40}) {
    refused(with("input_ids", changed(ids, 1, 3, id)),
            {"tensor input_ids", "row 1, position 3: " + std::to_string(id), "is no token"}, vocabulary);
  }
  refused(with("attention_mask", changed(mask, 1, 1, 0)), {"attention_mask", "row 1", "zeros between ones"},
          vocabulary);
  refused(with("attention_mask", changed(mask, 1, 1, 2)), {"attention_mask", "row 1 has 2"}, vocabulary);
  at::Tensor none = mask.clone();
  none[0].zero_();
  refused(with("attention_mask", none), {"attention_mask", "row 0 is all 0"}, vocabulary);
}

}  // namespace caravan::tests
