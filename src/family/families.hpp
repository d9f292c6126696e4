// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace caravan::family {

/// What one line of published models is called: a dense base and the PESC model that is crafted from it. A PESC model
/// may also carry the base's model_type (the official Camelidae files say "llama").
struct Family {
  std::string dense;          // model_type of the base
  std::string crafted;        // model_type with adapters
  std::string expert_prefix;  // of an expert's number in "…moe_adapter.experts.{prefix}{e}.adapter_down.weight"
  std::string architecture;   // class of the base in transformers
  std::string classes;        // "Camelidae": begins the names of our own classes of a crafted model
  std::string auto_config;    // auto_map of a crafted model: the official repository's classes; empty: none published
  std::string auto_model;
};

/// Null for a model_type that no family has.
const Family* find_family(const std::string& model_type);
/// Throws (exit 70) for one that no family has.
const Family& family_of(const std::string& model_type);
/// All model_types, as a list for messages.
std::string supported_model_types();

}  // namespace caravan::family
