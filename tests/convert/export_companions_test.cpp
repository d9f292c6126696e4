// SPDX-License-Identifier: Apache-2.0
// What stands beside the weights of an export: the chat template and the terms of use.
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "convert/chat_template.hpp"
#include "convert/terms.hpp"
#include "core/error.hpp"
#include "io/atomic_file.hpp"
#include "tests/support/catch.hpp"

namespace fs = std::filesystem;
using namespace caravan;
using nlohmann::json;

namespace {

class Folder {
 public:
  Folder()
      : path(fs::temp_directory_path() /
             ("caravan_companions_" + std::to_string(getpid()) + "_" + std::to_string(count++))) {
    fs::remove_all(path);
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  void write(const std::string& name, const std::string& text) const { std::ofstream(path / name) << text; }
  std::string read(const std::string& name) const { return io::read_file(path / name); }
  json config() const { return json::parse(read("tokenizer_config.json")); }
  bool holds(const std::string& name) const { return fs::exists(path / name); }

  static inline int count = 0;
  fs::path path;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the chat template of the training replaces the base's, which is kept and told") {
  Folder folder;
  folder.write("tokenizer.model", "");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer", "chat_template": "{{ base }}"})");
  REQUIRE(convert::chat_template_in(folder.path) == "{{ base }}");
  const std::string report = convert::chat_template_report("{{ ours }}", "{{ base }}", true);
  CHECK(has(report, "which Caravan cannot render, is kept as base_chat_template.jinja"));
  convert::complete_tokenizer(folder.path, "{{ ours }}", false);
  CHECK(folder.config() == json{{"tokenizer_class", "LlamaTokenizer"}, {"chat_template", "{{ ours }}"}});
  CHECK(folder.read("base_chat_template.jinja") == "{{ base }}");

  // transformers takes chat_template.jinja before the field.
  folder.write("chat_template.jinja", "{{ file }}");
  fs::create_directories(folder.path / "additional_chat_templates");
  folder.write("additional_chat_templates/tools.jinja", "{{ tools }}");
  REQUIRE(convert::chat_template_in(folder.path) == "{{ file }}");
  convert::complete_tokenizer(folder.path, "{{ ours }}", false);
  CHECK_FALSE(folder.holds("chat_template.jinja"));
  CHECK_FALSE(folder.holds("additional_chat_templates"));
  CHECK(folder.read("base_chat_templates/tools.jinja") == "{{ tools }}");
  CHECK(convert::chat_template_in(folder.path) == "{{ ours }}");
  CHECK(folder.read("base_chat_template.jinja") == "{{ file }}");
}

TEST_CASE("the base's chat template stays where the training had none") {
  Folder folder;
  const std::string text = R"({"tokenizer_class": "LlamaTokenizer", "chat_template": "{{ base }}"})";
  folder.write("tokenizer.model", "");
  folder.write("tokenizer_config.json", text);
  convert::complete_tokenizer(folder.path, "", false);
  CHECK(folder.read("tokenizer_config.json") == text);
  CHECK_FALSE(folder.holds("base_chat_template.jinja"));
  CHECK(has(convert::chat_template_report("", "{{ base }}", false), "Caravan cannot render it"));
  CHECK_FALSE(has(convert::chat_template_report("{{ ours }}", "{{ ours }}", true), "base"));
  const std::string none = convert::chat_template_report("", std::nullopt, false);
  CHECK(has(none, "There is no chat template"));
  CHECK(has(none, "not trained with one"));
}

TEST_CASE("files that make vLLM take Mistral's own prompts go, and this is told") {
  Folder folder;
  for (const char* name : {"tokenizer.model", "tokenizer.model.v3", "tokenizer.model.v7m1", "tekken.json"}) {
    folder.write(name, "");
  }
  const std::vector<std::string> names{"tekken.json", "tokenizer.model.v3", "tokenizer.model.v7m1"};
  CHECK(convert::find_tekken(folder.path) == names);
  CHECK(has(convert::chat_template_report("{{ ours }}", std::nullopt, true, names),
            "Not exported: the base's tekken.json, tokenizer.model.v3 and tokenizer.model.v7m1, with which vLLM"));
  // What was not trained goes with the base's prompts.
  convert::complete_tokenizer(folder.path, "", false);
  CHECK(convert::find_tekken(folder.path) == names);
  CHECK_FALSE(has(convert::chat_template_report("", std::nullopt, false, names), "Not exported"));
  convert::complete_tokenizer(folder.path, "{{ ours }}", false);
  CHECK(convert::find_tekken(folder.path).empty());
  CHECK(folder.holds("tokenizer.model"));
}

TEST_CASE("a model that was trained with an unknown chat template is not called untrained") {
  for (const std::string& text :
       {convert::chat_template_report("", "{{ base }}", true), convert::chat_template_report("", std::nullopt, true)}) {
    CAPTURE(text);
    CHECK(has(text, "the checkpoint does not say which one the model was trained with"));
    CHECK_FALSE(has(text, "not trained with"));
    CHECK_FALSE(has(text, "neither trained"));
  }
}

TEST_CASE("the class of the tokenizer is named, which nobody knows from our model_type") {
  Folder folder;
  convert::complete_tokenizer(folder.path, "{{ ours }}", false);
  CHECK_FALSE(folder.holds("tokenizer_config.json"));  // no tokenizer
  folder.write("tokenizer.json", "{}");
  folder.write("tokenizer_config.json", R"({"model_max_length": 5})");
  convert::complete_tokenizer(folder.path, "", true);
  CHECK(folder.config() == json{{"model_max_length", 5}, {"tokenizer_class", "Qwen2Tokenizer"}});
  fs::remove(folder.path / "tokenizer_config.json");
  folder.write("tokenizer.model", "");
  convert::complete_tokenizer(folder.path, "", false);
  CHECK(folder.config() == json{{"tokenizer_class", "LlamaTokenizer"}});
  folder.write("tokenizer_config.json", "[]");
  CHECK_THROWS_AS(convert::complete_tokenizer(folder.path, "", false), core::Error);
}

TEST_CASE("terms of use go into step 0 and from there into an export") {
  const Folder base, store;
  fs::create_directories(store.path / "step" / "out");
  base.write("LICENSE.txt", "LLAMA 2 COMMUNITY\nLICENSE AGREEMENT");
  base.write("Notice", "A notice");
  base.write("USE_POLICY.md", "A policy");
  base.write("README.md", "---\nlanguage:\n- en\nlicense: 'llama2'  \n---\n# Base\nlicense: mit\n");
  base.write("model.py", "license = 1");
  const std::vector<std::string> names{"LICENSE.txt", "Notice", "USE_POLICY.md"};
  CHECK(convert::files_of_terms(base.path) == names);
  convert::keep_terms(base.path, store.path / "step");
  CHECK(io::read_file(store.path / "step" / convert::base_card_file) == base.read("README.md"));
  convert::copy_terms(store.path / "step", store.path / "step" / "out");
  CHECK(convert::files_of_terms(store.path / "step" / "out") == names);
  CHECK_FALSE(fs::exists(store.path / "step" / "out" / convert::base_card_file));
  CHECK(convert::license_of(store.path / "step").id == "llama2");
}

TEST_CASE("no license is stated of which only a part is known") {
  const std::string mit =
      "MIT License\n\nCopyright (c) 2024 Someone\n\nPermission is hereby granted, free of charge, to any person "
      "obtaining\n"
      "a copy of this software";
  Folder folder;
  const auto license = [&] { return convert::license_of(folder.path); };
  folder.write("LICENSE-CODE", mit);
  REQUIRE(license().id == "mit");
  folder.write("LICENSE-MODEL", "You may not use this model for money.");
  CHECK(license().id == "other");
  CHECK(license().link == "LICENSE-MODEL");
  CHECK(license().name == "see-license-model");
  folder.write("LICENSE-MODEL", "LLAMA 2 COMMUNITY LICENSE AGREEMENT");
  CHECK(license().id == "other");
  folder.write("LICENSE-MODEL", mit);
  CHECK(license().id == "mit");
  // Terms of their own that quote another license as a notice, or begin with it and go on.
  std::string terms;
  while (terms.size() < 2000) terms += "You may not use this model for money. ";
  folder.write("LICENSE-MODEL", terms + mit);
  CHECK(license().id == "other");
  folder.write("LICENSE-MODEL", mit + terms);
  CHECK(license().id == "other");
}

TEST_CASE("a license is read from a card, recognised by its text, or linked") {
  Folder folder;
  const auto license = [&] { return convert::license_of(folder.path); };
  CHECK(license().id.empty());
  folder.write("LICENSE", "Terms of our own");
  CHECK(license().id == "other");
  CHECK(license().link == "LICENSE");
  folder.write("LICENSE", "   Apache License\n   Version 2.0, January 2004\n");
  CHECK(license().id == "apache-2.0");
  folder.write(
      "LICENSE",
      "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining\na copy of this software");
  CHECK(license().id == "mit");
  folder.write("LICENSE", "META LLAMA 3 COMMUNITY LICENSE AGREEMENT");
  CHECK(license().id == "llama3");
  folder.write("README.md", "---\nlicense:\n- bsd-3-clause\n- mit\nlicense_name: x\n---\n");
  CHECK(license().id == "bsd-3-clause");
  folder.write("README.md", "---\nlicense: other\nlicense_name: tongyi\nlicense_link: https://example.org/a:b\n---\n");
  CHECK(license().id == "other");
  CHECK(license().name == "tongyi");
  CHECK(license().link == "https://example.org/a:b");
  folder.write("README.md", "# No head\nlicense: mit\n");
  CHECK(license().id == "llama3");
}
