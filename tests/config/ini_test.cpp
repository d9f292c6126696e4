// SPDX-License-Identifier: Apache-2.0
#include "config/ini.hpp"

#include <cstdlib>

#include "tests/support/catch.hpp"

using caravan::config::expand_variables;
using caravan::config::IniLine;
using caravan::config::quote_item;
using caravan::config::read_ini;
using caravan::config::split_value;
using Items = std::vector<std::string>;

TEST_CASE("an INI file's lines are found with their numbers") {
  Items errors;
  const auto lines =
      read_ini("\xEF\xBB\xBF# comment\r\n[a]\r\n\r\n; comment\n x = 1 \r\n[ b ] # note\ny=two = 2", "f", errors);
  CHECK(errors.empty());
  REQUIRE(lines.size() == 4);
  CHECK((lines[0].number == 2 && lines[0].section == "a" && lines[0].key.empty()));
  CHECK((lines[1].number == 5 && lines[1].section == "a" && lines[1].key == "x" && lines[1].value == "1"));
  CHECK((lines[2].number == 6 && lines[2].section == "b" && lines[2].key.empty()));
  CHECK((lines[3].number == 7 && lines[3].section == "b" && lines[3].key == "y" && lines[3].value == "two = 2"));
}

TEST_CASE("lines that are neither section nor setting are refused by number") {
  Items errors;
  read_ini("x = 1\n[a\n[b] c\n[d]\nword\n= 3\n", "f.ini", errors);
  CHECK(errors == Items{"f.ini:1: x stands before any [section]", "f.ini:2: a section is written [name]",
                        "f.ini:3: a section is written [name]", "f.ini:5: not understood: word; write key = value",
                        "f.ini:6: not understood: = 3; write key = value"});
}

TEST_CASE("values are trimmed, unquoted and freed of comments") {
  struct Case {
    const char* text;
    bool list;
    Items items;
  };
  const std::vector<Case> cases{{"", false, {""}},
                                {"  a b  ", false, {"a b"}},
                                {"a # b", false, {"a"}},
                                {"# b", false, {""}},
                                {"a#b;c", false, {"a#b;c"}},
                                {"a, b", false, {"a, b"}},
                                {"\" a # b \"  ; c", false, {" a # b "}},
                                {"'say \"x\"'", false, {"say \"x\""}},
                                {"it's", false, {"it's"}},
                                {"", true, {}},
                                {" # none", true, {}},
                                {"a,b , c", true, {"a", "b", "c"}},
                                {"a, 'b, c',", true, {"a", "b, c"}},
                                {"a,,b", true, {"a", "", "b"}},
                                {"''", true, {""}}};
  for (const Case& item : cases) {
    Items errors;
    INFO(item.text);
    CHECK(split_value(item.text, item.list, true, "f:1: ", errors) == item.items);
    CHECK(errors.empty());
  }
  Items errors;
  CHECK(split_value("a # b", false, false, "", errors) == Items{"a # b"});
  split_value("\"a", false, true, "f:1: ", errors);
  split_value("'a' b", false, true, "f:2: ", errors);
  CHECK(errors == Items{"f:1: the quote \" is not closed", "f:2: unexpected text after the closing quote: b"});
}

TEST_CASE("quoting an item and splitting it again gives the item") {
  for (const bool list : {false, true}) {
    for (const std::string item : {"plain", " edge ", "a # b", "#", "'q'", "\"q", "a,b", "it's", "${X}", "$X", "$$"}) {
      INFO(item);
      Items errors;
      Items items = split_value(quote_item(item, list), list, true, "", errors);
      REQUIRE(items.size() == 1);
      CHECK(expand_variables(items[0], "", errors) == item);
      CHECK(errors.empty());
    }
  }
}

TEST_CASE("variables of the environment are expanded, unknown ones refused") {
  setenv("CARAVAN_TEST_PLACE", "/some/place", 1);
  unsetenv("CARAVAN_TEST_NOWHERE");
  Items errors;
  CHECK(expand_variables("${CARAVAN_TEST_PLACE}/x-$y", "", errors) == "/some/place/x-$y");
  CHECK(errors.empty());
  expand_variables("${CARAVAN_TEST_NOWHERE}/x", "f:3: ", errors);
  expand_variables("${CARAVAN", "f:4: ", errors);
  REQUIRE(errors.size() == 2);
  CHECK(errors[0] ==
        "f:3: the environment has no variable CARAVAN_TEST_NOWHERE; set it, or write $${ for a literal ${");
  CHECK(errors[1] == "f:4: ${ is not closed by }");
}
