// SPDX-License-Identifier: Apache-2.0
#include "convert/companions.hpp"

#include <nlohmann/json.hpp>

#include "tests/dataset/fixtures.hpp"
#include "tests/support/catch.hpp"

namespace caravan {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// eos_token_id of both configurations, where the base's say `before`.
std::pair<json, json> exported_eos(const json& before, std::optional<std::int32_t> eos) {
  const test::TemporaryFolder from, to;
  const json config{{"eos_token_id", before}};
  from.write("generation_config.json", config.dump());
  convert::write_companions({from / "", {}, eos}, to / "", config.dump());
  return {test::read_json(to / "config.json")["eos_token_id"],
          test::read_json(to / "generation_config.json")["eos_token_id"]};
}

TEST_CASE("an export ends answers with the token that they were trained to end with") {
  const auto both = [](const json& value) { return std::pair(value, value); };
  CHECK(exported_eos(2, 384) == both(384));
  CHECK(exported_eos({2, 384}, 384) == both({2, 384}));
  CHECK(exported_eos({2, 3}, 384) == both(384));
  CHECK(exported_eos(nullptr, 384) == both(384));
  CHECK(exported_eos(384, 384) == both(384));
  CHECK(exported_eos(2, std::nullopt) == both(2));
}

TEST_CASE("tokenizer files come from one folder, whatever the other has") {
  const test::TemporaryFolder base, other, to;
  for (const char* name : {"tokenizer.model", "added_tokens.json", "chat_template.jinja"}) base.write(name, "base");
  base.write("generation_config.json", "{}");
  other.write("own.model", "other");
  other.write("tokenizer_config.json", "other");
  other.write("generation_config.json", "other");
  convert::write_companions({base / "", other / "own.model"}, to / "", "{}");
  CHECK(test::read_bytes(to / "tokenizer.model") == "other");
  CHECK(test::read_bytes(to / "tokenizer_config.json") == "other");
  CHECK(test::read_bytes(to / "generation_config.json") == "{}");
  for (const char* name : {"added_tokens.json", "chat_template.jinja", "own.model"}) CHECK_FALSE(fs::exists(to / name));
  CHECK(test::refusal([&] {
          convert::write_companions({base / "", other / "none"}, to / "", "{}");
        }).find("set data.tokenizer") != std::string::npos);
}

}  // namespace
}  // namespace caravan
