# SPDX-License-Identifier: Apache-2.0
"""export_reference.py MODEL OUT.safetensors: what transformers computes from an exported folder.

transformers' Llama with the adapters' formula behind every feed-forward block:
out = y + scaling * sum over the chosen experts of w_e * Up_e(gelu(Down_e(y))), as in Wu et al., EMNLP 2024.
Writes input_ids, attention_mask and logits for caravan verify. Exits with 77, after the word "skipped", where Python
lacks torch, transformers or safetensors."""

import glob
import json
import os
import sys

try:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import LlamaConfig, LlamaForCausalLM
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)


class FeedForwardWithAdapters(torch.nn.Module):
    def __init__(self, dense, config, weights, prefix):
        super().__init__()
        self.dense = dense
        self.topk = config["topk"]
        self.scaling = config["moe_scaling"]
        self.router = weights[prefix + "router.weight"]
        names = [f"{prefix}experts.expert_{e}." for e in range(config["num_experts"])]
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


def main(folder, out):
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    weights = {}
    for shard in glob.glob(os.path.join(folder, "*.safetensors")):
        weights.update({name: value.float() for name, value in load_file(shard).items()})
    fields = {key: value for key, value in config.items() if key not in ("auto_map", "model_type", "torch_dtype")}
    model = LlamaForCausalLM(LlamaConfig(**fields)).float().eval()
    dense = {name: value for name, value in weights.items() if ".moe_adapter." not in name}
    missing, unexpected = model.load_state_dict(dense, strict=False)
    if unexpected or any("inv_freq" not in name for name in missing):
        sys.exit(f"tensors do not fit transformers' Llama: missing {missing}, unexpected {unexpected}")
    for n, layer in enumerate(model.model.layers):
        layer.mlp = FeedForwardWithAdapters(layer.mlp, config, weights, f"model.layers.{n}.mlp.moe_adapter.")
    torch.manual_seed(7)
    ids = torch.randint(0, config["vocab_size"], (3, 40))
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask).logits
    save_file({"input_ids": ids, "attention_mask": mask, "logits": logits.float().contiguous()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
