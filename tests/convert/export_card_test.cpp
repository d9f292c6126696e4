// SPDX-License-Identifier: Apache-2.0
#include "convert/export_card.hpp"

#include "tests/support/catch.hpp"

using namespace caravan;

namespace {

convert::ExportCard card() {
  convert::ExportCard card;
  card.spec.model_type = "camelidae";
  card.spec.rotary.theta = 10000;
  card.spec.pesc = family::Pesc{8, 2, 512, 0.25};
  card.spec.lora = family::Lora{64, 16, {"q_proj", "v_proj"}};
  card.dtype = core::DType::bf16;
  card.base = "models/Llama-2-7b-hf";
  card.checkpoint = "run/checkpoints/step-00000120";
  card.step = 120;
  card.settings = {{"data", {{"source", "/home/someone/idae.json"}, {"template", "idae"}}},
                   {"train", {{"lr", 2e-4}, {"batch", 128}, {"warmup_steps", 0}, {"warmup_ratio", 0.03}}}};
  card.program = "caravan 1.2.3";
  card.verified = true;
  card.check = "They are the same.";
  return card;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the card says what was trained from what, with which settings and result") {
  const std::string text = convert::card_text(card());
  for (const char* part : {"from Llama-2-7b-hf", "models/Llama-2-7b-hf", "8 adapters of dimension 512", "step-00000120",
                           "120 steps", "- data.source: idae.json", "- train.lr: 0.0002", "- train.batch: 128",
                           "- train.warmup_ratio: 0.03", "LoRA of rank 64 and alpha 16 on q_proj and v_proj",
                           "bfloat16", "rope_theta = 10000", "Verified. They are the same.", "caravan 1.2.3",
                           "configuration_pesc.py", "modeling_pesc.py", "trust_remote_code=True"}) {
    INFO(part);
    CHECK(has(text, part));
  }
  // The base may have been a mixture already.
  CHECK(has(text, "models/Llama-2-7b-hf with 8 adapters"));
  for (const char* part :
       {"A dense model", "/home/someone", "warmup_steps", "ignores the field", "nverified", "Not verified"}) {
    INFO(part);
    CHECK_FALSE(has(text, part));
  }
}

TEST_CASE("the card names the data that were trained on, not those of the settings") {
  convert::ExportCard trained = card();
  trained.settings["data"] = {{"source", "/home/someone/other.json"}, {"template", "idae"}, {"packing", "simple"}};
  trained.packed = {{"source", "data.json"}, {"template", "idae_official"}, {"packing", "none"}, {"max_prompt", 512}};
  const std::string text = convert::card_text(trained);
  for (const char* part : {"- data.source: data.json", "- data.template: idae_official", "- data.packing: none",
                           "- data.max_prompt: 512", "- train.lr: 0.0002"}) {
    INFO(part);
    CHECK(has(text, part));
  }
  CHECK_FALSE(has(text, "other.json"));
  CHECK_FALSE(has(text, "simple"));
}

TEST_CASE("the card warns of an ignored rope_theta, an untrained model and a difference") {
  convert::ExportCard other = card();
  other.spec.rotary.theta = 5e6;
  other.step = 0;
  other.verified = false;
  other.check = "They differ by 3.";
  other.format = convert::ExportFormat::official;
  const std::string text = convert::card_text(other);
  for (const char* part :
       {"rope_theta = 5000000", "ignores the field and always computes with 10000", "model.rope_theta",
        "It was not trained", "**Unverified", "**Not verified.** They differ by 3."}) {
    INFO(part);
    CHECK(has(text, part));
  }
  CHECK(has(convert::unverified_text(other), "They differ by 3."));
  other.format = convert::ExportFormat::pesc;  // our own class does not ignore it
  CHECK_FALSE(has(convert::card_text(other), "ignores the field"));
}

TEST_CASE("the card's code asks for no chat template or tokenizer that is not there") {
  convert::ExportCard other = card();
  CHECK(has(convert::card_text(other), "tokenizer.apply_chat_template(chat, "));
  other.prompt = convert::PromptOf::text;
  std::string text = convert::card_text(other);
  CHECK(has(text, "prompt = tokenizer(\"The sea is\", return_tensors=\"pt\")\nprint(tokenizer.decode("));
  CHECK_FALSE(has(text, "apply_chat_template"));
  other.prompt = convert::PromptOf::none;
  text = convert::card_text(other);
  CHECK(has(text, "\nmodel = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)\n```\n"));
  CHECK(has(text, "there is no tokenizer"));
  for (const char* part : {"tokenizer.decode", "tokenizer(", "AutoTokenizer", "the tokenizer is"})
    CHECK_FALSE(has(text, part));
}

TEST_CASE("the head of the card has the base's license, if it is known") {
  convert::ExportCard known = card();
  known.license = {"other", "tongyi", "LICENSE"};
  known.terms = {"LICENSE", "NOTICE"};
  const std::string text = convert::card_text(known);
  CHECK(
      text.starts_with("---\nlicense: \"other\"\nlicense_name: \"tongyi\"\nlicense_link: \"LICENSE\"\nlibrary_name: "
                       "\"transformers\"\n"));
  CHECK(has(text, "license is other (tongyi)"));
  CHECK(has(text, "From its folder: LICENSE and NOTICE."));
  CHECK_FALSE(has(text, "which holds for"));  // MIT asks nothing of a model that is made from another
  CHECK_FALSE(has(convert::card_text(card()), "\nlicense:"));
  CHECK(has(convert::card_text(card()), "did not say under which license"));
}

TEST_CASE("the card of the official format names its class, or says that there is none") {
  convert::ExportCard other = card();
  other.format = convert::ExportFormat::official;
  CHECK(has(convert::card_text(other), "put their configuration_camelidae.py and modeling_camelidae.py beside"));
  other.spec.model_type = "sparsetral";
  CHECK(has(convert::card_text(other), "put their configuration_sparsetral.py and modeling_sparsetral.py beside"));
  CHECK(has(convert::card_text(other), "transformers' own MistralForCausalLM would leave the adapters out"));
  other.spec.model_type = "qwen2idae";
  CHECK(has(convert::card_text(other), "No class for transformers is published for qwen2idae"));
  CHECK_FALSE(has(convert::card_text(other), "camelidae.py"));
}

TEST_CASE("the card of an adapter says what belongs to it and claims no merged weights") {
  convert::ExportCard adapter = card();
  adapter.merged = false;
  adapter.spec.lora->rank_stabilised = true;
  const std::string text = convert::card_text(adapter);
  // alpha / √rank = 16 / 8
  for (const char* part :
       {"rank 64 and alpha 16, rank-stabilised, on q_proj and v_proj", "W + 2 · B · A",
        "PeftModel.from_pretrained on models/Llama-2-7b-hf", "pesc/model.safetensors", "Verified. They are the same.",
        "library_name: \"peft\"", "class_of(\"modeling_pesc.CamelidaeForCausalLM\", folder)",
        "base = \"models/Llama-2-7b-hf\"", "model = PeftModel.from_pretrained(model, folder)"}) {
    INFO(part);
    CHECK(has(text, part));
  }
  for (const char* part : {"merged into", "auto_map", "generation_config"}) {
    INFO(part);
    CHECK_FALSE(has(text, part));
  }
  CHECK(has(text, "the tokenizer is the base's."));
  CHECK(has(text, "from transformers import AutoTokenizer\n"));
  CHECK(has(text, "tokenizer.apply_chat_template(chat, "));
  // What is saved after PEFT's merge_and_unload loads elsewhere.
  CHECK(has(text, "Model.register_for_auto_class(\"AutoModelForCausalLM\")\n"));
  adapter.eos = 7;
  adapter.tokenizer = "other-tokenizer";
  CHECK(has(convert::card_text(adapter), "the tokenizer is that of data.tokenizer, other-tokenizer."));
  CHECK(has(convert::card_text(adapter), "model.generation_config.eos_token_id = 7 "));
  adapter.prompt = convert::PromptOf::none;
  CHECK_FALSE(has(convert::card_text(adapter), "AutoTokenizer"));
  CHECK_FALSE(has(convert::card_text(adapter), "tokenizer.apply_chat_template"));
  adapter.spec.lora.reset();
  CHECK_FALSE(has(convert::card_text(adapter), "adapter_config.json"));
  CHECK(has(convert::card_text(adapter), "library_name: \"transformers\""));  // PEFT cannot load it
}
