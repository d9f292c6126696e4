// SPDX-License-Identifier: Apache-2.0
#include "family/rotary.hpp"

#include <cmath>
#include <numbers>

#include "core/error.hpp"
#include "core/text.hpp"

namespace caravan::family {
namespace {

using Kind = RotaryScaling::Kind;

// The kind's name; files have "type", "rope_type" (newer) or both. Empty: no scaling.
std::string read_kind(const ConfigFields& fields) {
  const bool older = fields.has("type"), newer = fields.has("rope_type");
  const std::string kind = fields.text(older && !newer ? "type" : "rope_type");
  if (older && newer && fields.text("type") != kind) {
    fields.refuse("type", core::concat(" contradicts rope_type = \"", kind, "\""));
  }
  return kind == "default" ? "" : kind;
}

std::optional<RotaryScaling> read_scaling(const ConfigFields& fields) {
  const std::string name = read_kind(fields);
  if (name.empty()) return std::nullopt;
  RotaryScaling scaling;
  if (name == "linear") {
    scaling.kind = Kind::linear;
  } else if (name == "dynamic") {
    scaling.kind = Kind::dynamic;
  } else if (name == "llama3") {
    scaling.kind = Kind::llama3;
    scaling.low_frequency_factor = fields.positive("low_freq_factor");
    scaling.high_frequency_factor = fields.positive("high_freq_factor");
    scaling.original_positions = fields.whole("original_max_position_embeddings", 1);
    if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
      fields.refuse("high_freq_factor", core::concat(" is not above low_freq_factor = ", scaling.low_frequency_factor));
    }
  } else {
    fields.refuse(fields.has("rope_type") ? "rope_type" : "type",
                  " is not implemented; linear, dynamic and llama3 are");
  }
  scaling.factor = fields.positive("factor");
  if (scaling.factor < 1) fields.refuse("factor", " is below 1");
  return scaling;
}

// In fp32 and in the order of operations of transformers, as everything here.
std::vector<float> plain_frequencies(double theta, std::int64_t head_dim) {
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < head_dim; i += 2) {
    const float exponent = static_cast<float>(i) / static_cast<float>(head_dim);
    frequencies.push_back(1.0F / std::pow(static_cast<float>(theta), exponent));
  }
  return frequencies;
}

void scale_llama3(const RotaryScaling& scaling, std::vector<float>& frequencies) {
  const auto factor = static_cast<float>(scaling.factor);
  const auto positions = static_cast<float>(scaling.original_positions);
  const auto low = static_cast<float>(scaling.low_frequency_factor);
  const auto high = static_cast<float>(scaling.high_frequency_factor);
  for (float& frequency : frequencies) {
    const float wavelength = 2 * std::numbers::pi_v<float> / frequency;
    if (wavelength < positions / high) continue;
    if (wavelength > positions / low) {
      frequency /= factor;
    } else {
      const float smooth = (positions / wavelength - low) / (high - low);
      frequency = (1 - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

}  // namespace

std::string Rotary::describe() const {
  std::string text = core::concat("rotary base ", theta);
  if (!scaling) return text;
  constexpr const char* names[]{"linear", "dynamic", "llama3"};
  return text + core::concat(", scaling ", names[static_cast<int>(scaling->kind)], " by ", scaling->factor);
}

Rotary read_rotary(const ConfigFields& fields) {
  Rotary rotary;
  if (fields.has("rope_parameters")) {
    const ConfigFields inner = fields.inside("rope_parameters");
    inner.only("partial_rotary_factor", 1.0);
    rotary.theta = inner.positive("rope_theta");
    rotary.scaling = read_scaling(inner);
  } else {
    rotary.theta = fields.positive_or("rope_theta", 10000);
    if (fields.has("rope_scaling")) rotary.scaling = read_scaling(fields.inside("rope_scaling"));
  }
  return rotary;
}

std::vector<float> inverse_frequencies(const Rotary& rotary, std::int64_t head_dim, std::int64_t max_positions,
                                       std::int64_t length) {
  if (!rotary.scaling) return plain_frequencies(rotary.theta, head_dim);
  const RotaryScaling& scaling = *rotary.scaling;
  if (scaling.kind == Kind::dynamic && length > max_positions) {
    // Dynamic NTK: base' = base · (factor · S / M − (factor − 1))^(d / (d − 2)).
    const auto d = static_cast<double>(head_dim);
    const double stretch = scaling.factor * static_cast<double>(length) / static_cast<double>(max_positions);
    return plain_frequencies(rotary.theta * std::pow(stretch - (scaling.factor - 1), d / (d - 2)), head_dim);
  }
  std::vector<float> frequencies = plain_frequencies(rotary.theta, head_dim);
  if (scaling.kind == Kind::linear) {
    for (float& frequency : frequencies) frequency /= static_cast<float>(scaling.factor);
  } else if (scaling.kind == Kind::llama3) {
    scale_llama3(scaling, frequencies);
  }
  return frequencies;
}

}  // namespace caravan::family
