// SPDX-License-Identifier: Apache-2.0
#include "report/page.hpp"

#include "family/foreign_names.hpp"
#include "family/parameters.hpp"
#include "report/tensor_tally.hpp"
#include "tests/report/expect_text.hpp"
#include "tests/support/fixtures.hpp"

using namespace caravan;
using report::kind_of;
using report::Page;
using report::TensorKind;

TEST_CASE("digits stand in groups of three") {
  CHECK(report::grouped(0) == "0");
  CHECK(report::grouped(999) == "999");
  CHECK(report::grouped(1000) == "1,000");
  CHECK(report::grouped(-123456) == "-123,456");
  CHECK(report::grouped(8030261248) == "8,030,261,248");
}

TEST_CASE("a page aligns keys, columns and checks, by characters and not bytes") {
  Page page;
  page.title("thing", "a/b");
  page.line("ä", "one\ntwo");
  page.line("longer", "three");
  page.table("", {{"name", "number", "note"}, {"x", "1", "é"}, {"long name", "1,000"}}, {1});
  page.heading("more");
  page.line("k", "v");
  page.problem("that");
  page.checked("this");
  page.unchecked("these");
  CHECK(page.text() ==
        "thing: a/b\n"
        "  ä       one\n"
        "          two\n"
        "  longer  three\n"
        "\n"
        "  name       number  note\n"
        "  x               1  é\n"
        "  long name   1,000\n"
        "\n"
        "more\n"
        "  k  v\n"
        "\n"
        "checks\n"
        "  ok        this\n"
        "  not read  these\n"
        "  PROBLEM   that\n");
  CHECK(page.problems() == std::vector<std::string>{"that"});
}

TEST_CASE("the kind of a tensor follows its name, as the family declares it") {
  family::ModelSpec spec = family::read_model_spec((tests::fixtures() / "camelidae-tiny").string());
  spec.lora = family::Lora{4, 8, {"q_proj", "down_proj"}};
  std::size_t lora = 0;
  for (const layout::ParameterSpec& parameter : family::parameter_specs(spec)) {
    INFO(parameter.name);
    const TensorKind kind = kind_of(parameter.name);
    CHECK(parameter.trainable == (kind != TensorKind::base));
    const bool over_experts = parameter.split && parameter.split->axis == layout::Axis::ep;
    CHECK(over_experts == (kind == TensorKind::adapters));
    lora += kind == TensorKind::lora;
    for (const auto& part : family::hugging_face_parts(spec, parameter)) CHECK(kind_of(part.name) == kind);
    CHECK(kind_of("optimizer/exp_avg/" + parameter.name) == TensorKind::moments);
  }
  CHECK(lora == static_cast<std::size_t>(spec.layers) * 4);
}

TEST_CASE("a tally counts trained elements apart, and moments as no parameters") {
  report::TensorTally tally;
  tally.add("model.norm.weight", {900}, "bfloat16", 1800);
  tally.add("model.layers.0.mlp.moe_adapter.router.weight", {10, 10}, "float32", 400);
  tally.add("optimizer/exp_avg/model.layers.0.mlp.moe_adapter.router.weight", {10, 10}, "float32", 400);
  CHECK(tally.parameters() == "1,000; 100 of them trained (10 %)");
  Page page;
  tally.place(TensorKind::base, "in step-00000000");
  tally.write(page);
  test::expect_text(page.text(), {"base model (frozen)        1       900     1.8 kB  bfloat16, in step-00000000",
                                  "together                   3     1,100     2.6 kB"});
}
