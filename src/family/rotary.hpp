// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "family/config_fields.hpp"

namespace caravan::family {

/// How the rotary frequencies theta^(−2i/d) are changed for longer texts: config.json's rope_scaling.
struct RotaryScaling {
  enum class Kind {
    linear,   // every frequency divided by factor
    dynamic,  // theta grows with the document's length beyond max_position_embeddings (dynamic NTK)
    llama3,   // low frequencies divided by factor, high ones kept, those between blended (Llama 3.1)
  };
  Kind kind = Kind::linear;
  double factor = 1;
  double low_frequency_factor = 0;      // llama3
  double high_frequency_factor = 0;     // llama3
  std::int64_t original_positions = 0;  // llama3
  bool operator==(const RotaryScaling&) const = default;
};

/// Rotary position embedding of a model (Su et al. 2021).
struct Rotary {
  double theta = 10000;  // base
  std::optional<RotaryScaling> scaling{};

  /// Whether frequencies differ between documents.
  bool depends_on_length() const { return scaling && scaling->kind == RotaryScaling::Kind::dynamic; }
  /// "rotary base 10000", with the scaling behind it.
  std::string describe() const;
  bool operator==(const Rotary&) const = default;
};

/// Reads rope_theta and rope_scaling, or rope_parameters (transformers 5), which is left aside beside a rope_scaling
/// that is not empty, as there; a base of 10000 where the file has none. Throws (exit 2), naming field and value, for a
/// kind of scaling that is not implemented or lacks a number.
Rotary read_rotary(const ConfigFields& fields, std::int64_t max_positions);
/// Puts the base where read_rotary takes it from.
void set_rotary_base(nlohmann::json& config, double theta);
/// Writes what every version of transformers reads alike, in place of what is there: rope_theta and rope_scaling, where
/// version 4 looks, and the same again in rope_parameters, where the configuration has that.
void write_rotary(nlohmann::json& config, double theta);

/// inv_freq of transformers: head_dim / 2 values in fp32. length: tokens of the document.
std::vector<float> inverse_frequencies(const Rotary& rotary, std::int64_t head_dim, std::int64_t max_positions,
                                       std::int64_t length);

}  // namespace caravan::family
