// SPDX-License-Identifier: Apache-2.0
#include "data/special_tokens.hpp"

#include <algorithm>
#include <map>

#include "core/error.hpp"

namespace caravan::data {
namespace {

class Finder {
 public:
  Finder(const TokenizerFiles& files, const Vocabulary& vocabulary, const std::string& model_file)
      : vocabulary_(vocabulary), model_file_(model_file) {
    for (const AddedToken& token : files.added) add_from_files(token);
    // transformers counts the texts that have an id; with gaps between the ids that is less than the largest one.
    next_id_ = vocabulary.size() + std::count_if(tokens_.begin(), tokens_.end(),
                                                 [&](const auto& entry) { return entry.first >= vocabulary.size(); });
    for (const NamedToken& named : files.named) name(named);
  }

  SpecialTokens result(const TokenizerFiles& files) const {
    SpecialTokens special{bos_, eos_, unk_, pad_, {}};
    special.add_bos = files.add_bos_token;
    special.add_eos = files.add_eos_token;
    special.add_prefix_space = files.add_prefix_space;
    special.legacy = files.legacy;
    special.split_special = files.split_special_tokens;
    special.warnings = files.warnings;
    special.vocabulary = vocabulary_.size();
    for (const auto& [id, token] : tokens_) {
      special.added.push_back(token);
      special.vocabulary = std::max<std::int64_t>(special.vocabulary, std::int64_t{id} + 1);
    }
    return special;
  }

 private:
  void add_from_files(const AddedToken& token) {
    if (const auto found = vocabulary_.find(token.content); found && *found != token.id) {
      core::bad_input(token.origin, ": \"", token.content, "\" has the id ", token.id, ", but in ", model_file_,
                      " it is ", *found, "; a token has one id: correct the file");
    }
    if (token.id < vocabulary_.size() && vocabulary_.text(token.id) != token.content && vocabulary_.in_use(token.id)) {
      core::bad_input(token.origin, ": \"", token.content, "\" has the id ", token.id, ", but in ", model_file_,
                      " that is \"", vocabulary_.text(token.id),
                      "\", which ordinary text becomes; an id has one token: ", "correct the file");
    }
    add(token);
  }

  void add(const AddedToken& token) {
    tokens_[token.id] = token;
    ids_[token.content] = token.id;
  }

  void name(const NamedToken& named) {
    AddedToken token = named.token;
    const bool additional = named.role == "additional_special_tokens";
    if (const auto found = ids_.find(token.content); found != ids_.end()) {
      // An added token's own flags count, where its file says them; but those of the list of additional tokens count
      // more, where no other role names it.
      AddedToken& known = tokens_.at(found->second);
      if (!known.named && token.has_flags && (additional || !known.has_flags)) {
        token.id = known.id;
        token.special = known.special;
        known = token;
      }
      known.special = known.special || !additional;
      known.named = true;
      set_role(named.role, known);
      return;
    }
    token.named = true;
    const auto found = vocabulary_.find(token.content);
    token.id = found && !tokens_.contains(*found) ? *found : behind_all(named);
    add(token);
    set_role(named.role, token);
  }

  std::int32_t behind_all(const NamedToken& named) {
    const AddedToken& token = named.token;
    if (named.role == "bos_token" || named.role == "eos_token" || named.role == "unk_token") {
      core::bad_input(token.origin, ": \"", token.content, "\" is neither in ", model_file_,
                      " nor an added token (added_tokens_decoder in tokenizer_config.json, added_tokens.json, "
                      "tokenizer.json); correct the name, or add the missing file. transformers would add it as ",
                      next_id_, ", which no model has learned");
    }
    const auto id = static_cast<std::int32_t>(next_id_++);
    if (const auto taken = tokens_.find(id); taken != tokens_.end()) {
      core::bad_input(token.origin, ": \"", token.content,
                      "\" is no token of this tokenizer, and the id that "
                      "transformers would give it, ",
                      id, ", is that of \"", taken->second.content,
                      "\"; give it an id of its own in added_tokens_decoder");
    }
    return id;
  }

  void set_role(const std::string& role, const AddedToken& token) {
    const SpecialTokens::Named named{token.content, token.id};
    if (role == "bos_token") bos_ = named;
    if (role == "eos_token") eos_ = named;
    if (role == "unk_token") unk_ = named;
    if (role == "pad_token") pad_ = named;
  }

  const Vocabulary& vocabulary_;
  const std::string& model_file_;
  std::map<std::int32_t, AddedToken> tokens_;
  std::map<std::string, std::int32_t> ids_;
  std::int64_t next_id_ = 0;
  SpecialTokens::Named bos_, eos_, unk_, pad_;
};

}  // namespace

SpecialTokens find_special_tokens(const TokenizerFiles& files, const Vocabulary& vocabulary,
                                  const std::string& model_file) {
  return Finder(files, vocabulary, model_file).result(files);
}

}  // namespace caravan::data
