// SPDX-License-Identifier: Apache-2.0
#include "watch/rank_state.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/json.hpp"

namespace caravan::watch {
namespace {

Group group_of(const Membership& membership) { return {membership.id, membership.color, membership.name.data()}; }

nlohmann::json to_json(const Group& group) { return {{"id", group.id}, {"color", group.color}, {"name", group.name}}; }

Group group_from(const nlohmann::json& json) { return {json.at("id"), json.at("color"), json.at("name")}; }

}  // namespace

std::optional<std::int64_t> RankState::begun(const Group& which) const {
  const auto found = std::find_if(groups.begin(), groups.end(), [&](const Begun& one) { return one.group == which; });
  return found == groups.end() ? std::nullopt : std::optional(found->number);
}

RankState state_of(const Page& page, const std::string& host) {
  using Nanoseconds = std::chrono::nanoseconds;
  const Published published = page.read();
  const Doing& doing = published.doing;
  RankState state;
  state.known = true;
  state.host = host;
  state.waiting = doing.waiting != 0;
  if (doing.slot >= 0 && doing.slot < static_cast<std::int32_t>(most_groups)) {
    state.group = group_of(published.groups[static_cast<std::size_t>(doing.slot)]);
  }
  state.number = doing.number;
  state.operation = doing.operation.data();
  const auto since =
      Activity::Clock::time_point(std::chrono::duration_cast<Activity::Clock::duration>(Nanoseconds(doing.since)));
  state.seconds = std::max(0.0, std::chrono::duration<double>(Activity::Clock::now() - since).count());
  state.quiet = page.quiet.load(std::memory_order_relaxed);
  state.step = doing.step;
  state.phase = doing.phase.data();
  for (const Membership& membership : published.groups) {
    if (membership.id >= 0) state.groups.push_back({group_of(membership), membership.begun});
  }
  state.beat = page.beat.load(std::memory_order_relaxed);
  state.beat_time = page.beat_time.load(std::memory_order_relaxed);
  return state;
}

nlohmann::json to_json(const RankState& state) {
  nlohmann::json groups = nlohmann::json::array();
  for (const RankState::Begun& one : state.groups) {
    groups.push_back(to_json(one.group));
    groups.back()["begun"] = one.number;
  }
  return {{"host", state.host},     {"waiting", state.waiting},     {"group", to_json(state.group)},
          {"number", state.number}, {"operation", state.operation}, {"seconds", state.seconds},
          {"quiet", state.quiet},   {"step", state.step},           {"phase", state.phase},
          {"groups", groups},       {"beat", state.beat},           {"beat_time", state.beat_time}};
}

RankState parse_state(const std::string& text) {
  const nlohmann::json json = core::parse_json_if_valid(text);
  if (!json.is_object()) return {};
  try {
    RankState state;
    state.host = json.at("host");
    state.waiting = json.at("waiting");
    state.group = group_from(json.at("group"));
    state.number = json.at("number");
    state.operation = json.at("operation");
    state.seconds = json.at("seconds");
    state.quiet = json.at("quiet");
    state.step = json.at("step");
    state.phase = json.at("phase");
    for (const nlohmann::json& one : json.at("groups")) state.groups.push_back({group_from(one), one.at("begun")});
    state.beat = json.at("beat");
    state.beat_time = json.at("beat_time");
    state.known = true;
    return state;
  } catch (const nlohmann::json::exception&) {
    return {};  // of another program, or torn
  }
}

}  // namespace caravan::watch
