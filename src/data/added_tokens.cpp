// SPDX-License-Identifier: Apache-2.0
#include "data/added_tokens.hpp"

#include <algorithm>

namespace caravan::data {
namespace {

/// What Python's str.strip() takes away.
constexpr std::array<std::string_view, 29> spaces{
    "\t",           "\n",           "\v",           "\f",           "\r",
    "\x1C",         "\x1D",         "\x1E",         "\x1F",         " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81",
    "\xE2\x80\x82", "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86",
    "\xE2\x80\x87", "\xE2\x80\x88", "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8",
    "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80"};

void strip_left(std::string& text) {
  const auto leads = [&](std::string_view space) { return text.starts_with(space); };
  for (auto space = spaces.begin(); !text.empty();) {
    space = std::find_if(spaces.begin(), spaces.end(), leads);
    if (space == spaces.end()) return;
    text.erase(0, space->size());
  }
}

void strip_right(std::string& text) {
  const auto ends = [&](std::string_view space) { return text.ends_with(space); };
  for (auto space = spaces.begin(); !text.empty();) {
    space = std::find_if(spaces.begin(), spaces.end(), ends);
    if (space == spaces.end()) return;
    text.resize(text.size() - space->size());
  }
}

}  // namespace

AddedTokenSplitter::AddedTokenSplitter(const std::vector<AddedToken>& tokens) : tokens_(tokens) {
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.content.size() > b.content.size(); });
  for (const AddedToken& token : tokens_) begins_a_token_.at(static_cast<unsigned char>(token.content.front())) = true;
}

const AddedToken* AddedTokenSplitter::at_start(std::string_view text) const {
  if (!begins_a_token_.at(static_cast<unsigned char>(text.front()))) return nullptr;
  for (const AddedToken& token : tokens_) {
    if (text.starts_with(token.content)) return &token;
  }
  return nullptr;
}

const AddedToken* AddedTokenSplitter::token_of(const std::string& text) const {
  const AddedToken* token = text.empty() ? nullptr : at_start(text);
  return token && token->content.size() == text.size() ? token : nullptr;
}

std::vector<AddedTokenSplitter::Part> AddedTokenSplitter::split(std::string_view text) const {
  std::vector<std::string> texts;
  std::size_t begin = 0, at = 0;
  while (at < text.size()) {
    const AddedToken* token = at_start(text.substr(at));
    if (!token) {
      ++at;
      continue;
    }
    if (at > begin) texts.emplace_back(text.substr(begin, at - begin));
    texts.push_back(token->content);
    begin = at += token->content.size();
  }
  if (begin < text.size()) texts.emplace_back(text.substr(begin));

  // A part may change before its own turn comes, and be no token any more.
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const AddedToken* token = token_of(texts[i]);
    if (!token) continue;
    std::string* left = i > 0 && !texts[i - 1].empty() ? &texts[i - 1] : nullptr;
    std::string* right = i + 1 < texts.size() && !texts[i + 1].empty() ? &texts[i + 1] : nullptr;
    const bool word_before = left && left->back() != ' ', word_after = right && right->front() != ' ';
    if (token->strip_right && right) strip_left(*right);
    if (token->strip_left && left) strip_right(*left);
    if (token->single_word && word_before) {
      *left += texts[i];
      texts[i].clear();
    } else if (token->single_word && word_after) {
      *right = texts[i] + *right;
      texts[i].clear();
    }
  }

  std::vector<Part> parts;
  for (std::string& part : texts) {
    if (part.empty()) continue;
    const AddedToken* token = token_of(part);
    parts.push_back({std::move(part), token});
  }
  return parts;
}

}  // namespace caravan::data
