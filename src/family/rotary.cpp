// SPDX-License-Identifier: Apache-2.0
#include "family/rotary.hpp"

#include <cmath>
#include <numbers>

#include "core/error.hpp"
#include "core/json.hpp"
#include "core/log.hpp"
#include "core/text.hpp"

namespace caravan::family {
namespace {

using Kind = RotaryScaling::Kind;

// The kind's name; files have "type", "rope_type" (newer) or both. Empty: no scaling.
std::string read_kind(const ConfigFields& fields) {
  if (!fields.has("type") && !fields.has("rope_type") && !fields.has("factor")) return "";
  const bool older = fields.has("type"), newer = fields.has("rope_type");
  const std::string kind = fields.text(older && !newer ? "type" : "rope_type");
  if (older && newer && fields.text("type") != kind) {
    fields.refuse("type", core::concat(" contradicts rope_type = \"", kind, "\""));
  }
  return kind == "default" ? "" : kind;
}

std::optional<RotaryScaling> read_scaling(const ConfigFields& fields, std::int64_t max_positions) {
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
    scaling.original_positions = fields.whole_or("original_max_position_embeddings", 1, max_positions);
    if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
      fields.refuse("high_freq_factor", core::concat(" is not above low_freq_factor = ", scaling.low_frequency_factor));
    }
  } else {
    fields.refuse(fields.has("rope_type") ? "rope_type" : "type",
                  " is not implemented; linear, dynamic and llama3 are");
  }
  scaling.factor = fields.positive("factor");
  if (scaling.factor < 1) {
    core::log_warning(core::concat(fields.file(), ": a factor of ", scaling.factor,
                                   " scales the rotary embedding to fewer positions instead of more"));
  }
  return scaling;
}

constexpr const char* scaling_field = "rope_scaling";
constexpr const char* parameters_field = "rope_parameters";
constexpr const char* base_field = "rope_theta";

bool says_something(const nlohmann::json& config, const char* field) {
  return config.contains(field) && !config.at(field).empty();  // null is empty, too
}

/// The field that holds the scaling, and in newer files the base; null when there is none.
const char* place_of_scaling(const nlohmann::json& config) {
  for (const char* field : {scaling_field, parameters_field}) {
    if (says_something(config, field)) return field;
  }
  return nullptr;
}

constexpr const char* keep_one =
    ", and versions of transformers differ in which of them they take; keep the one that the model was trained with";

// Refuses a second place that says something else than `rotary`, which is what the first one says.
void require_agreement(const ConfigFields& fields, const Rotary& rotary, std::int64_t max_positions) {
  // Earlier versions of this program wrote model.rope_theta into step 0's rope_parameters alone.
  const bool mixture = fields.has("moe_scaling");
  if (!mixture && fields.has(base_field) && fields.positive(base_field) != rotary.theta) {
    fields.refuse(base_field, core::concat(" contradicts ", place_of_scaling(fields.json()),
                                           ".rope_theta = ", rotary.theta, keep_one));
  }
  if (!says_something(fields.json(), scaling_field) || !says_something(fields.json(), parameters_field)) return;
  const ConfigFields second = fields.inside(parameters_field);
  second.only("partial_rotary_factor", 1.0);
  if (second.positive_or(base_field, rotary.theta) != rotary.theta) {
    second.refuse(base_field,
                  core::concat(" contradicts rope_theta = ", rotary.theta,
                               fields.has(base_field) ? "" : ", the default beside rope_scaling", keep_one));
  }
  if (read_scaling(second, max_positions) != rotary.scaling) {
    fields.refuse(
        parameters_field,
        core::concat(" contradicts rope_scaling = ", core::json_text(fields.json().at(scaling_field)), keep_one));
  }
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

Rotary read_rotary(const ConfigFields& fields, std::int64_t max_positions) {
  Rotary rotary;
  rotary.theta = fields.positive_or(base_field, 10000);
  const char* place = place_of_scaling(fields.json());
  if (place == nullptr) return rotary;
  const ConfigFields inner = fields.inside(place);
  inner.only("partial_rotary_factor", 1.0);
  rotary.theta = inner.positive_or(base_field, rotary.theta);
  rotary.scaling = read_scaling(inner, max_positions);
  require_agreement(fields, rotary, max_positions);
  return rotary;
}

void set_rotary_base(nlohmann::json& config, double theta) {
  config[base_field] = theta;
  for (const char* field : {scaling_field, parameters_field}) {
    if (says_something(config, field) && config[field].contains(base_field)) config[field][base_field] = theta;
  }
}

void write_rotary(nlohmann::json& config, const Rotary& rotary) {
  const char* place = place_of_scaling(config);
  nlohmann::json scaling = place == nullptr ? nlohmann::json::object() : config[place];
  config.erase(parameters_field);
  config[base_field] = rotary.theta;
  config[scaling_field] = nullptr;
  if (!rotary.scaling) return;
  for (const char* field : {base_field, "partial_rotary_factor"}) scaling.erase(field);
  if (!scaling.contains("rope_type")) scaling["rope_type"] = scaling["type"];
  // transformers 4 fails without it.
  if (rotary.scaling->kind == Kind::llama3) {
    scaling["original_max_position_embeddings"] = rotary.scaling->original_positions;
  }
  config[scaling_field] = std::move(scaling);
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
