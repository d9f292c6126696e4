# SPDX-License-Identifier: Apache-2.0
"""export_reference.py MODEL OUT.safetensors [ADAPTER]: what transformers computes from an exported folder.

transformers' own class of the model's family with the adapters' formula behind every feed-forward block:
out = y + scaling * sum over the chosen experts of w_e * Up_e(gelu(Down_e(y))), as in Wu et al., EMNLP 2024.
With ADAPTER, a folder of LoRA and mixture on the base MODEL: LoRA is loaded and computed by PEFT, the mixture is that
of ADAPTER/pesc. Writes input_ids, attention_mask and logits for caravan verify. Exits with 77, after the word
"skipped", where Python lacks torch, transformers, safetensors or, for an adapter, peft."""

import glob
import json
import os
import sys

try:
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    if len(sys.argv) > 3:
        import peft
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

# model_type of a mixture, or of its base: transformers' classes, and what stands before an expert's number.
FAMILIES = {
    "camelidae": ("LlamaConfig", "LlamaForCausalLM", "expert_"),
    "qwen2idae": ("Qwen2Config", "Qwen2ForCausalLM", "expert_"),
    "sparsetral": ("MistralConfig", "MistralForCausalLM", ""),
}
FAMILIES.update({"llama": FAMILIES["camelidae"], "qwen2": FAMILIES["qwen2idae"], "mistral": FAMILIES["sparsetral"]})


class FeedForwardWithAdapters(torch.nn.Module):
    def __init__(self, dense, config, weights, prefix):
        super().__init__()
        self.dense = dense
        self.topk = config["topk"]
        self.scaling = config["moe_scaling"]
        self.router = weights[prefix + "router.weight"]
        before = FAMILIES[config["model_type"]][2]
        names = [f"{prefix}experts.{before}{e}." for e in range(config["num_experts"])]
        self.down = torch.stack([weights[name + "adapter_down.weight"] for name in names])
        self.up = torch.stack([weights[name + "adapter_up.weight"] for name in names])

    def forward(self, x):
        y = self.dense(x)
        chosen = torch.topk(x @ self.router.T, self.topk, dim=-1)
        gates = torch.softmax(chosen.values, dim=-1)
        inner = torch.nn.functional.gelu(torch.einsum("bth,edh->bted", y, self.down))
        experts = torch.einsum("bted,ehd->bteh", inner, self.up)
        index = chosen.indices.unsqueeze(-1).expand(-1, -1, -1, y.shape[-1])
        return y + self.scaling * (gates.unsqueeze(-1) * experts.gather(2, index)).sum(2)


def read_folder(folder):
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    weights = {}
    for shard in glob.glob(os.path.join(folder, "model*.safetensors")):
        weights.update({name: value.float() for name, value in load_file(shard).items()})
    return config, weights


def stock_model(config, weights):
    """transformers' own class with the tensors that it knows; the mixture's are left for later."""
    config_class, model_class, _ = FAMILIES[config["model_type"]]
    fields = {key: value for key, value in config.items() if key not in ("auto_map", "model_type", "torch_dtype")}
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**fields)).float().eval()
    dense = {name: value for name, value in weights.items() if ".moe_adapter." not in name}
    missing, unexpected = model.load_state_dict(dense, strict=False)
    allowed = ["lm_head.weight"] if config.get("tie_word_embeddings") else []
    if unexpected or any(name not in allowed and "inv_freq" not in name for name in missing):
        sys.exit(f"tensors do not fit transformers' {model_class}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model


def main(folder, out, adapter=None):
    config, weights = read_folder(folder)
    model = stock_model(config, weights)
    layers = model.model.layers
    if adapter and os.path.exists(os.path.join(adapter, "adapter_config.json")):
        # Without a warning of tensors that PEFT looked for in vain, or a change of theirs.
        model = peft.PeftModel.from_pretrained(model, adapter).eval()
        loaded = peft.get_peft_model_state_dict(model)
        stored = load_file(os.path.join(adapter, "adapter_model.safetensors"))
        if loaded.keys() != stored.keys() or any(not torch.equal(loaded[name], stored[name]) for name in stored):
            sys.exit("PEFT has not loaded the tensors of adapter_model.safetensors")
    if adapter:
        config, weights = read_folder(os.path.join(adapter, "pesc"))
    expected = {f"model.layers.{n}.mlp.moe_adapter.router.weight" for n in range(len(layers))}
    if {name for name in weights if name.endswith("router.weight")} != expected:
        sys.exit(f"there is not one router in each of {len(layers)} layers")
    for n, layer in enumerate(layers):
        layer.mlp = FeedForwardWithAdapters(layer.mlp, config, weights, f"model.layers.{n}.mlp.moe_adapter.")
    torch.manual_seed(7)
    ids = torch.randint(0, model.config.vocab_size, (3, 40))
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    save_file({"input_ids": ids, "attention_mask": mask, "logits": logits.float().contiguous()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
