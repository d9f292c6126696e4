# SPDX-License-Identifier: Apache-2.0
# make.py FIXTURE_FOLDER > cases.json: what the slow LlamaTokenizer of transformers 4.44.2 (with sentencepiece 0.2 and
# protobuf) makes of folders with the fixture's tokenizer.model and the files below.
import json, os, shutil, sys, tempfile
from transformers import LlamaTokenizer, __version__

model = sys.argv[1] + "/tokenizer.model"
size = LlamaTokenizer(model, legacy=False).vocab_size
first, second, third = size, size + 1, size + 2


def token(content, **flags):
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, **flags}


def named(content, **flags):
    return {"__type": "AddedToken", **token(content, **flags)}


names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
chat = {**names, "eos_token": "<|im_end|>"}
two = {"<|im_end|>": first, "<|im_start|>": second}
decoder = {str(first): token("<|im_end|>", special=True), str(second): token("<|im_start|>", special=False, rstrip=True)}
fast = {"version": "1.0", "model": {"type": "BPE", "merges": []},
        "added_tokens": [{"id": 0, **token("<unk>", special=True)}, {"id": 1, **token("<s>", special=True)},
                         {"id": 2, **token("</s>", special=True)}, {"id": first, **token("<|im_end|>", special=True)},
                         {"id": third, **token("word", special=False, single_word=True)}]}
CONFIG, MAP, ADDED, FAST = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json"
folders = {
    "no files": {},
    "added_tokens.json": {CONFIG: {**chat, "legacy": False}, ADDED: two},
    "added_tokens.json, legacy": {CONFIG: chat, ADDED: two},
    "names in special_tokens_map.json": {CONFIG: {"legacy": False}, MAP: chat, ADDED: two},
    "special_tokens_map.json before tokenizer_config.json": {CONFIG: {**names, "legacy": False}, MAP: chat, ADDED: two},
    "flags of special_tokens_map.json": {
        CONFIG: {"legacy": False}, ADDED: two, MAP: {**chat, "eos_token": token("<|im_end|>", lstrip=True, rstrip=True)}},
    "added_tokens_decoder": {CONFIG: {**chat, "legacy": False, "added_tokens_decoder": decoder}},
    "added_tokens_decoder before all others": {
        CONFIG: {**chat, "legacy": False, "added_tokens_decoder": decoder}, MAP: names,
        ADDED: {"<|im_end|>": third, "<other>": first}},
    "tokenizer.json": {CONFIG: {**chat, "legacy": False}, FAST: fast},
    "tokenizer.json, legacy": {CONFIG: {**chat, "legacy": True}, FAST: fast},
    "tokenizer.json with added_tokens.json": {
        CONFIG: {**chat, "legacy": False}, ADDED: {"<|im_end|>": first, "<|im_start|>": second}, FAST: fast},
    "a padding token behind all": {CONFIG: {**chat, "legacy": False, "pad_token": "[PAD]"}, ADDED: two},
    "a padding token that is another": {CONFIG: {**names, "legacy": False, "pad_token": "<unk>"}},
    "no bos": {CONFIG: {**names, "bos_token": None, "add_bos_token": False, "legacy": False}},
    "no prefix space": {CONFIG: {**names, "legacy": False, "add_prefix_space": False}},
    "ends every text": {CONFIG: {**names, "legacy": False, "add_eos_token": True}},
    "special tokens are split": {CONFIG: {**chat, "legacy": False, "split_special_tokens": True}, ADDED: two},
    "stripping bos": {CONFIG: {**names, "bos_token": named("<s>", rstrip=True), "legacy": False}},
    "additional tokens": {
        CONFIG: {**names, "legacy": False, "additional_special_tokens": ["<|im_start|>", named("word", single_word=True)],
                 "added_tokens_decoder": decoder}},
    "additional tokens of both files": {
        CONFIG: {**names, "legacy": False, "additional_special_tokens": ["<|im_start|>"]},
        MAP: {"additional_special_tokens": [token("<|im_end|>", lstrip=True)]}, ADDED: two},
    "a gap between ids": {CONFIG: {**names, "legacy": False, "added_tokens_decoder": {str(third): token("<|im_end|>")}}},
}
texts = ["Hello world", "<s>Hello</s> world", "a<|im_start|>user\n b <|im_end|> c<|im_end|>", "<|im_end|><|im_start|>x",
         "a word, awords word", "\u2581word \u00a0<s>\u00a0 \u3000x", "  two  spaces ", "[PAD]<unk>\u65e5\u672c\U0001f642"]
cases = []
for name, files in folders.items():
    folder = tempfile.mkdtemp()
    shutil.copy(model, folder)
    for file, content in files.items():
        with open(os.path.join(folder, file), "w") as out:
            json.dump(content, out)
    reference = LlamaTokenizer.from_pretrained(folder)
    shutil.rmtree(folder)
    ids = {role: getattr(reference, role + "_token_id") for role in ("bos", "eos", "unk", "pad")}
    cases.append({"name": name, "files": files, "ids": {role: -1 if i is None else i for role, i in ids.items()},
                  "texts": [{"text": text, "ids": reference(text).input_ids} for text in texts]})
json.dump({"transformers": __version__, "folders": cases}, sys.stdout, indent=None, separators=(",", ":"))
print()
