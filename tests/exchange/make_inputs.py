# SPDX-License-Identifier: Apache-2.0
"""make_inputs.py FOLDER TOKENIZER INSTRUCTIONS: small random bases of three families, and instructions for them.

FOLDER/{camelidae,qwen2idae,sparsetral}-base are named after what they become. Between them they have the configurations
that users have: with scaled rotary embeddings and with tied embeddings, as transformers 4 and as transformers 5 saves
them, with legacy and other tokenizers, with a chat template and a license of their own. Heads have 64 elements, since
vLLM has no CPU kernels for smaller ones."""

import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 1280,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BASES = {
    "camelidae": {
        "model_type": "llama",
        "torch_dtype": "float32",
        "tie_word_embeddings": False,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 128,
        },
    },
    "qwen2idae": {
        "model_type": "qwen2",
        "torch_dtype": "float32",
        "tie_word_embeddings": True,
        "rope_theta": 1000000.0,
        "use_sliding_window": False,
    },
    "sparsetral": {
        "model_type": "mistral",
        "dtype": "float32",
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "sliding_window": None,
    },
}


def tensors(config):
    generator = torch.Generator().manual_seed(5)

    def linear(rows, columns):
        return torch.randn(rows, columns, generator=generator) / columns**0.5

    hidden, ffn, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    keys = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    # Logits with a standard deviation of 0.5: two programs that add in another order differ by some 1e-6 then, well
    # below the 1e-5 that are tolerated.
    named = {"model.embed_tokens.weight": 0.5 * linear(vocabulary, hidden)}
    for n in range(config["num_hidden_layers"]):
        layer = f"model.layers.{n}."
        named[layer + "input_layernorm.weight"] = 1 + 0.1 * torch.randn(hidden, generator=generator)
        named[layer + "post_attention_layernorm.weight"] = 1 + 0.1 * torch.randn(hidden, generator=generator)
        for name, rows, columns in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", keys, hidden),
            ("self_attn.v_proj", keys, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", ffn, hidden),
            ("mlp.up_proj", ffn, hidden),
            ("mlp.down_proj", hidden, ffn),
        ):
            named[f"{layer}{name}.weight"] = linear(rows, columns)
            if config["model_type"] == "qwen2" and name[-6] in "qkv":
                named[f"{layer}{name}.bias"] = 0.1 * torch.randn(rows, generator=generator)
    named["model.norm.weight"] = 1 + 0.1 * torch.randn(hidden, generator=generator)
    if not config["tie_word_embeddings"]:
        named["lm_head.weight"] = 0.5 * linear(vocabulary, hidden)
    return named


def make_base(folder, config, tokenizer, legacy):
    os.makedirs(folder)
    with open(folder + "/config.json", "w") as file:
        json.dump(config, file, indent=1)
    save_file(tensors(config), folder + "/model.safetensors", metadata={"format": "pt"})
    shutil.copy(tokenizer + "/tokenizer.model", folder)
    with open(tokenizer + "/tokenizer_config.json") as file:
        settings = {**json.load(file), "legacy": legacy}
    if legacy:
        settings["chat_template"] = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
        with open(folder + "/LICENSE", "w") as file:
            file.write("Apache License\nVersion 2.0, January 2004\n")
    with open(folder + "/tokenizer_config.json", "w") as file:
        json.dump(settings, file, indent=1)


def short_records(instructions):
    with open(instructions) as file:
        records = [record for record in json.load(file) if len(json.dumps(record)) < 600][:32]
    for first, second in zip(records[0::4], records[1::4]):
        first["conversation"] = first["conversation"] + second["conversation"]
    for record in records[2::4]:
        record["instruction"] = ""
    return records


def main(folder, tokenizer, instructions):
    for name, config in BASES.items():
        make_base(f"{folder}/{name}-base", {**SIZES, **config}, tokenizer, legacy=name == "sparsetral")
    with open(folder + "/instructions.json", "w") as file:
        json.dump(short_records(instructions), file)


if __name__ == "__main__":
    main(*sys.argv[1:])
