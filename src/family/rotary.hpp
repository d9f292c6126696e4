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

/// Reads rope_theta and rope_scaling, or rope_parameters (transformers 5); a base of 10000 where the file has none.
/// Throws (exit 2), naming field and value, for a kind of scaling that is not implemented or lacks a number, and where
/// two of the fields contradict each other.
Rotary read_rotary(const ConfigFields& fields, std::int64_t max_positions);
/// Puts the base wherever the configuration has one.
void set_rotary_base(nlohmann::json& config, double theta);
/// Writes what every version of transformers reads alike, in place of what is there: rope_theta and rope_scaling, with
/// all numbers that version 4 needs. rope_parameters goes, since it would keep its values when a program that does not
/// know it changes the other two. rotary: what read_rotary() made of the configuration, or with another base.
void write_rotary(nlohmann::json& config, const Rotary& rotary);

/// inv_freq of transformers: head_dim / 2 values in fp32. length: tokens of the document.
std::vector<float> inverse_frequencies(const Rotary& rotary, std::int64_t head_dim, std::int64_t max_positions,
                                       std::int64_t length);

}  // namespace caravan::family
