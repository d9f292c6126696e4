// SPDX-License-Identifier: Apache-2.0
// PEFT's own adapters on their base, computed beside the weights at every layout, and merged into them.
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "convert/export_tensors.hpp"
#include "family/peft_source.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/fixtures.hpp"
#include "tests/support/model_on_grid.hpp"
#include "tests/support/tensors.hpp"

namespace caravan::tests {
namespace {

// Tolerances of the fixtures' README; merged and unmerged differ there by at most 4e-6 at logits of deviation 1.2.
constexpr double logit_tolerance = 5e-5;
constexpr double weight_tolerance = 1e-6;
constexpr double sum_tolerance = 3e-7;

nlohmann::json read_json(const std::filesystem::path& file) {
  std::ifstream in(file);
  return nlohmann::json::parse(in);
}

/// An adapter of the fixtures with the base that its file names.
struct Adapted {
  explicit Adapted(const std::filesystem::path& folder)
      : base_folder((fixtures() / read_json(folder / "adapter_config.json").at("base_model_name_or_path")).string()),
        base(family::read_model_spec(base_folder)),
        files(base_folder, base),
        adapter(family::read_peft_adapter(folder.string())),
        spec(family::adapted(base, adapter)),
        source(files, family::PeftSource(adapter, spec)) {}

  std::string base_folder;
  family::ModelSpec base;
  family::HuggingFaceSource files;
  family::PeftAdapter adapter;
  family::ModelSpec spec;
  family::AdaptedSource source;
};

std::vector<std::filesystem::path> adapters() {
  auto found = folders_in(more_fixtures() / "peft");
  REQUIRE(found.size() >= 2);  // plain and rank-stabilised
  return found;
}

/// The frozen tensors of a source rounded to bf16, as a bf16 base holds them.
class RoundedSource : public layout::TensorSource {
 public:
  explicit RoundedSource(const layout::TensorSource& source) : source_(source) {}
  bool contains(const std::string& name) const override { return source_.contains(name); }
  Info info(const std::string& name) const override { return source_.info(name); }
  void read(const std::string& name, const layout::Rectangle& part, core::DType dtype, void* target) const override {
    std::vector<float> values(static_cast<std::size_t>(part.count()));
    source_.read(name, part, core::DType::f32, values.data());
    if (name.find(".lora_") == std::string::npos) {
      for (float& value : values) value = core::bf16_to_float(core::float_to_bf16(value));
    }
    core::convert(values.data(), core::DType::f32, target, dtype, values.size());
  }
  std::string where() const override { return source_.where(); }

 private:
  const layout::TensorSource& source_;
};

/// Rounded to bf16, as fp32.
at::Tensor rounded(const at::Tensor& values) { return values.to(at::kFloat).to(at::kBFloat16).to(at::kFloat); }

/// Every exported tensor that LoRA is merged into.
std::vector<convert::ExportTensor> merged_tensors(const family::ModelSpec& spec, core::DType dtype) {
  std::vector<convert::ExportTensor> tensors = convert::export_tensors(spec, dtype);
  std::erase_if(tensors, [](const convert::ExportTensor& tensor) { return tensor.lora_a.empty(); });
  return tensors;
}

at::Tensor made(const layout::TensorSource& source, const convert::ExportTensor& tensor, double scale) {
  at::Tensor out = at::empty(tensor.target.shape, parallel::scalar_type_of(tensor.target.dtype));
  auto* next = static_cast<char*>(out.data_ptr());
  convert::make_tensor(source, tensor, scale, [&](const void* data, std::size_t bytes) {
    std::memcpy(next, data, bytes);
    next += bytes;
  });
  CHECK(next == static_cast<char*>(out.data_ptr()) + out.nbytes());
  return out;
}

at::Tensor read_all(const layout::TensorSource& source, const std::string& name) {
  at::Tensor out = at::empty(source.info(name).shape, at::kFloat);
  source.read(name, layout::whole(source.info(name).shape), core::DType::f32, out.data_ptr());
  return out;
}

}  // namespace

TEST_CASE("PEFT's adapters beside the weights give PEFT's logits", "[golden]") {
  for (const std::filesystem::path& folder : adapters()) {
    const Adapted model(folder);
    const io::SafetensorsFile expected(folder / "expected.safetensors");
    const at::Tensor ids = read_tensor(expected, "input_ids");
    const at::Tensor wanted = read_tensor(expected, "logits").flatten(0, 1);
    const data::TokenBatch batch = batch_of_rows(ids, {}, {}, 0, ids.size(0));
    for (const auto& [tp, ep] : layouts(comm::make_world(60)->size(), 2)) {
      if (!fits(model.spec, tp, ep)) continue;
      CAPTURE(folder.filename().string(), tp);
      const at::NoGradGuard no_grad;
      const ModelOnGrid on_grid(model.spec, model.source, &model.source, tp, ep);
      const parallel::TokenAxis axis(parallel::token_rows(batch), on_grid.context);
      const at::Tensor rows = at::arange(0, axis.real, at::kLong);
      const at::Tensor got = on_grid.decoder->logits(on_grid.decoder->forward({axis}), rows);
      CHECK(max_difference(got, wanted) < logit_tolerance);
    }
  }
}

TEST_CASE("Merged weights are those of merge_and_unload", "[golden]") {
  for (const std::filesystem::path& folder : adapters()) {
    const Adapted model(folder);
    const io::SafetensorsFile expected(folder / "merged_linears.safetensors");
    std::size_t compared = 0;
    for (const convert::ExportTensor& tensor : merged_tensors(model.spec, core::DType::f32)) {
      if (!expected.contains(tensor.target.name)) continue;
      CAPTURE(folder.filename().string(), tensor.target.name);
      const at::Tensor got = made(model.source, tensor, model.spec.lora->scale());
      CHECK(max_difference(got, read_tensor(expected, tensor.target.name)) < weight_tolerance);
      CHECK(max_difference(got, read_all(model.files, tensor.target.name)) > 100 * weight_tolerance);
      ++compared;
    }
    CHECK(compared == expected.names().size());
  }
}

TEST_CASE("Merging into a bf16 base rounds base + fp32 update once", "[golden]") {
  const nlohmann::json facts = read_json(more_fixtures() / "meta.json").at("peft");
  for (const std::filesystem::path& folder : adapters()) {
    const Adapted model(folder);
    const RoundedSource base(model.source);
    const double scale = model.spec.lora->scale();
    std::int64_t near_ties = 0, elements = 0, rounded_twice_differs = 0;
    double furthest = 0;
    for (const convert::ExportTensor& tensor : merged_tensors(model.spec, core::DType::bf16)) {
      CAPTURE(folder.filename().string(), tensor.target.name);
      const at::Tensor got = made(base, tensor, scale).to(at::kFloat);
      const at::Tensor update = at::mm(read_all(model.source, tensor.lora_b).to(at::kDouble),
                                       read_all(model.source, tensor.lora_a).to(at::kDouble)) *
                                scale;
      const at::Tensor weight = read_all(base, tensor.source).to(at::kDouble);
      // Sums of eight products below 1 in other orders differ in fp32's last bits, which shows next to a tie of bf16.
      const at::Tensor below = rounded(weight + update - sum_tolerance);
      const at::Tensor above = rounded(weight + update + sum_tolerance);
      CHECK(at::logical_and(got.ge(below), got.le(above)).all().item<bool>());
      near_ties += below.ne(above).sum().item<std::int64_t>();
      elements += got.numel();
      const at::Tensor twice = rounded(weight + rounded(update).to(at::kDouble));
      rounded_twice_differs += got.ne(twice).sum().item<std::int64_t>();
      convert::ExportTensor whole = tensor;
      whole.target.dtype = core::DType::f32;
      furthest = std::max(furthest, max_difference(got, made(model.source, whole, scale)));
    }
    CHECK(near_ties * 50 < elements);  // so the comparison above is one
    CHECK(rounded_twice_differs > 2 * near_ties);
    const double wanted = facts.at(folder.filename().string()).at("bf16_merge").at("weights_max_abs_vs_fp32_merge");
    CHECK(std::abs(furthest - wanted) < weight_tolerance);
  }
}

}  // namespace caravan::tests
