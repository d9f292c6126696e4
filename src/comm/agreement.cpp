// SPDX-License-Identifier: Apache-2.0
#include "comm/agreement.hpp"

#include <algorithm>
#include <bit>
#include <filesystem>
#include <map>
#include <optional>

#include "core/checksum.hpp"
#include "core/rank_list.hpp"
#include "core/system_error.hpp"
#include "core/text.hpp"

namespace caravan::comm {

Failure attempt(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const core::Error& error) {
    return {error.code(), error.what()};
  } catch (const std::filesystem::filesystem_error& error) {
    const int code = error.code().value();
    return {core::exit_code_of(code), error.what() + core::advice_on(code)};
  } catch (const std::exception& error) {
    return {core::ExitCode::internal, error.what()};
  }
}

void on_all_ranks(Communicator& world, const std::function<void()>& work) {
  const Failure mine = attempt(work);
  // One character of exit code, then the message; empty: no failure.
  const std::string failure =
      mine.code == core::ExitCode::done ? "" : std::string(1, static_cast<char>(mine.code)) + mine.message;
  const std::vector<std::string> failures = world.all_gather_text("agree on success", failure);
  for (std::size_t rank = 0; rank < failures.size(); ++rank) {
    if (failures[rank].empty()) continue;
    const auto code = static_cast<core::ExitCode>(static_cast<unsigned char>(failures[rank][0]));
    const std::string who = rank > 0 ? "rank " + std::to_string(rank) + ": " : "";
    throw AgreedError(code, who + failures[rank].substr(1));
  }
}

namespace {

constexpr std::size_t most_values = 3;  // of one fact
constexpr std::size_t most_differences = 8;

using Value = std::optional<std::string>;     // nothing: this rank does not have the fact
using Values = std::map<std::string, Value>;  // by the fact's name

// name, zero, '=' and value or '-' for nothing, zero.
void append(std::string& text, const std::string& name, const Value& value) {
  CARAVAN_CHECK(name.find('\0') == std::string::npos && (!value || value->find('\0') == std::string::npos), name);
  text += name + '\0' + (value ? "=" + *value : "-") + '\0';
}

std::string packed(const std::vector<Fact>& facts) {
  std::string text;
  for (const Fact& fact : facts) append(text, fact.name, fact.value);
  return text;
}

template <typename Each>
void unpack(const std::string& text, const Each& each) {
  for (std::size_t at = 0; at < text.size();) {
    const std::string name = text.c_str() + at;
    at += name.size() + 1;
    const std::string value = text.c_str() + at;
    at += value.size() + 1;
    each(name, value[0] == '=' ? Value(value.substr(1)) : std::nullopt);
  }
}

bool all_equal(Communicator& world, const std::string& text) {
  const auto hash = std::bit_cast<std::int64_t>(core::xxh3(text.data(), text.size()));
  std::int64_t greatest_and_least[2] = {hash, ~hash};  // ~ turns the order round
  world.all_reduce("compare between ranks", greatest_and_least, 2, core::DType::i64, Reduce::max).wait();
  return greatest_and_least[0] == ~greatest_and_least[1];
}

/// What `facts` have otherwise than rank 0.
std::string unlike_first(const std::vector<Fact>& facts, const std::string& first) {
  Values mine;
  for (const Fact& fact : facts) CARAVAN_CHECK(mine.emplace(fact.name, fact.value).second, fact.name);
  std::string text;
  unpack(first, [&](const std::string& name, const Value& value) {
    const auto own = mine.find(name);
    const Value other = own == mine.end() ? std::nullopt : own->second;
    if (other != value) append(text, name, other);
    if (own != mine.end()) mine.erase(own);
  });
  for (const auto& [name, value] : mine) append(text, name, value);
  return text;
}

/// `value_of` gives the value of each rank.
template <typename ValueOf>
std::string describe(const std::string& name, int ranks, const ValueOf& value_of) {
  std::vector<std::pair<Value, std::vector<int>>> groups;  // by their lowest rank
  std::vector<int> others;
  for (int rank = 0; rank < ranks; ++rank) {
    const Value value = value_of(rank);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const auto& known) { return known.first == value; });
    if (group == groups.end() && groups.size() == most_values) {
      others.push_back(rank);
      continue;
    }
    if (group == groups.end()) group = groups.insert(group, {value, {}});
    group->second.push_back(rank);
  }
  std::vector<std::string> parts;
  parts.reserve(groups.size() + 1);
  for (const auto& [value, with_it] : groups)
    parts.push_back(value.value_or("(none)") + " on " + core::describe_ranks(with_it));
  if (!others.empty()) parts.push_back("other values on " + core::describe_ranks(others));
  return name + " = " + core::join(parts, ", but ");
}

}  // namespace

std::vector<std::string> differences(Communicator& world, const std::vector<Fact>& facts) {
  const std::string text = packed(facts);
  if (all_equal(world, text)) return {};
  const std::string first = world.broadcast_text("tell what rank 0 was started with", text, 0);
  const std::vector<std::string> differing = world.all_gather_text("tell what differs", unlike_first(facts, first));

  std::vector<std::string> names;  // as rank 0 has them, then those that it lacks
  Values of_first;
  std::map<std::string, std::map<int, Value>> unlike;
  const auto note = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  unpack(first, [&](const std::string& name, const Value& value) {
    note(name);
    of_first[name] = value;
  });
  for (std::size_t rank = 0; rank < differing.size(); ++rank) {
    unpack(differing[rank], [&](const std::string& name, const Value& value) {
      note(name);
      unlike[name][static_cast<int>(rank)] = value;
    });
  }
  std::vector<std::string> found;
  for (const std::string& name : names) {
    const auto others = unlike.find(name);
    if (others == unlike.end()) continue;
    found.push_back(describe(name, world.size(), [&](int rank) {
      const auto own = others->second.find(rank);
      return own == others->second.end() ? of_first[name] : own->second;
    }));
  }
  return found;
}

void require_same(Communicator& world, const std::vector<Fact>& facts, const std::string& advice) {
  const std::vector<std::string> found = differences(world, facts);
  if (found.empty()) return;
  std::string message;
  for (std::size_t i = 0; i < std::min(found.size(), most_differences); ++i) message += found[i] + "; ";
  if (found.size() > most_differences) message += core::concat(found.size() - most_differences, " more; ");
  throw AgreedError(core::ExitCode::bad_input, message + advice);
}

}  // namespace caravan::comm
