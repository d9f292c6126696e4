// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "commands/table.hpp"

namespace caravan::commands {

/// caravan verify --model=DIR [--adapter=DIR] --reference=FILE.safetensors [--precision=fp32|bf16] [--tolerance=…]
/// [--layout.tp=…] [--layout.ep=…]: whether a model (Hugging Face folder, with a PEFT folder on it or without, or
/// checkpoint) gives the logits [B, S, V] that FILE holds for its input_ids [B, S]; with an attention_mask [B, S],
/// where that is 1. Computed in fp32 unless --precision says bf16. Exit code 1 when it does not.
Job verify(const Command& command, const std::vector<std::string>& arguments);

}  // namespace caravan::commands
