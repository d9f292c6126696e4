// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "commands/start.hpp"
#include "data/packed_file.hpp"
#include "data/tokenizer.hpp"

// One tokenizer from upcycle to export: data.tokenizer where it is set, else the one that upcycle put into step 0.
namespace caravan::commands {

/// The tokenizer of a stage that has a checkpoint. Throws (exit 2) as data::open_tokenizer does, and when the
/// checkpoint says that it was trained on data of another one.
std::unique_ptr<data::Tokenizer> open_run_tokenizer(const Session& session, const Start& start);

/// The token that the checkpoint's answers were trained to end with. Nothing for one of step 0, where the tokenizer has
/// none, and, with a warning, where data of an earlier version do not say it: then data.packed is read. For one rank.
/// Throws (exit 2) when they say that it is another one than the tokenizer's.
std::optional<std::int32_t> trained_eos(const Session& session, const Start& start, const data::Tokenizer& tokenizer);

/// Throws (exit 2) when a packed file was made with another tokenizer, naming in what they differ, or has a token that
/// the model does not have.
void require_same_tokens(const data::PackedFile& file, const data::Tokenizer& tokenizer, const Start& start);

/// What upcycle looks at before its long work. Throws (exit 2) when data.tokenizer names nothing; warns of a tokenizer
/// that prepare is going to refuse, since weights are upcycled without one.
void check_tokenizer_of_base(const Session& session);

/// Which tokenizer prepare takes, before there is a checkpoint to train from.
struct TokenizerOfData {
  std::string folder;      // step 0 where it is there, since that is what the stages after it take; else model.base
  std::string conflict{};  // what the base has else by now and what to do; "": nothing, or data.tokenizer decides
};
TokenizerOfData tokenizer_of_data(const Session& session);

}  // namespace caravan::commands
