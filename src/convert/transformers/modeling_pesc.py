# SPDX-License-Identifier: Apache-2.0
"""Dense models with a mixture of adapters behind every feed-forward block (PESC: Wu et al., EMNLP 2024), written by
Caravan for transformers 4.44 and later.

transformers' own Llama, Qwen2 and Mistral, with another feed-forward block: all else is inherited, so that attention,
cache and parallelism are those of the installed version."""

import math

import torch
from torch import nn
from transformers import LlamaForCausalLM, LlamaModel, MistralForCausalLM, MistralModel, Qwen2ForCausalLM, Qwen2Model
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.mistral.modeling_mistral import MistralMLP
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP

from .configuration_pesc import CamelidaeConfig, Qwen2idaeConfig, SparsetralConfig


class Router(nn.Module):
    """Its weight is a bare parameter: loading in 4 or 8 bits quantises linears, and rounding would change choices."""

    def __init__(self, config):
        super().__init__()
        self.topk = config.topk
        self.weight = nn.Parameter(torch.empty(config.pesc_experts, config.hidden_size))

    def forward(self, x):
        """[..., H] to [..., E]: the softmax over the k largest logits, 0 for the others."""
        with torch.autocast(device_type=x.device.type, enabled=False):  # it would compute linears in 16 bits
            logits = nn.functional.linear(x.float(), self.weight.float())
        largest, chosen = logits.topk(self.topk, dim=-1)
        return torch.zeros_like(logits).scatter(-1, chosen, largest.softmax(dim=-1)).to(x.dtype)


class Adapter(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.adapter_down = nn.Linear(config.hidden_size, config.adapter_dim, bias=False)
        self.adapter_up = nn.Linear(config.adapter_dim, config.hidden_size, bias=False)
        self.adapter_down.pesc_initial, self.adapter_up.pesc_initial = "uniform", "zeros"

    def forward(self, y, weight):
        return self.adapter_up(nn.functional.gelu(self.adapter_down(y)) * weight)


class MixtureOfAdapters(nn.Module):
    """Every adapter sees every token, with weight 0 where it was not chosen: shapes must not depend on the data, or
    vLLM cannot compile. A ModuleDict, since vLLM replaces a list of that name by experts of another kind."""

    def __init__(self, config):
        super().__init__()
        self.scaling = config.moe_scaling
        self.dropout = nn.Dropout(config.adapter_dropout)
        self.router = Router(config)
        self.experts = nn.ModuleDict(
            {config.expert_name.format(e): Adapter(config) for e in range(config.pesc_experts)}
        )

    def forward(self, x, y):
        """x: what the feed-forward block read, y: what it gave."""
        weights = self.router(x)
        # Dropout is drawn anew for every adapter.
        mixed = sum(
            expert(self.dropout(y), weights[..., e : e + 1]) for e, expert in enumerate(self.experts.values())
        )
        return y + self.scaling * mixed


class FeedForward:
    """Stands before a dense feed-forward block among the bases of a class."""

    def __init__(self, config, *others, **named):
        super().__init__(config, *others, **named)
        self.moe_adapter = MixtureOfAdapters(config)

    def forward(self, x):
        y = self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))  # in this form vLLM fuses it
        return self.moe_adapter(x, y)


class CamelidaeMLP(FeedForward, LlamaMLP):
    pass


class Qwen2idaeMLP(FeedForward, Qwen2MLP):
    pass


class SparsetralMLP(FeedForward, MistralMLP):
    pass


class InitialValues:
    """Of what is not in the files: the adapters of a dense base compute nothing until they are trained."""

    def _init_weights(self, module):
        initial = getattr(module, "pesc_initial", "uniform" if isinstance(module, Router) else None)
        if initial == "uniform":
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        elif initial == "zeros":
            nn.init.zeros_(module.weight)
        else:
            super()._init_weights(module)


class Base(InitialValues):
    """Stands before a dense base model."""

    def __init__(self, config):
        super().__init__(config)
        rotary = getattr(self, "rotary_emb", None) or self.layers[0].self_attn.rotary_emb
        scaling = getattr(config, "rope_scaling", None) or {}
        if scaling.get("rope_type", scaling.get("type", "default")) != "default" and not hasattr(rotary, "rope_type"):
            raise ValueError(f"rope_scaling = {scaling}, which this version of transformers ignores: use a newer one")
        for layer in self.layers:
            layer.mlp = self.feed_forward(config)
        self.post_init()


class WithHead(InitialValues):
    """Stands before a dense model with a head."""

    def __init__(self, config):
        super().__init__(config)
        self.model = None  # the dense one gives its memory back, and its place among the modules is kept
        self.model = self.base(config)
        self.post_init()


class CamelidaeModel(Base, LlamaModel):
    config_class = CamelidaeConfig
    feed_forward = CamelidaeMLP


class CamelidaeForCausalLM(WithHead, LlamaForCausalLM):
    config_class = CamelidaeConfig
    base = CamelidaeModel


class Qwen2idaeModel(Base, Qwen2Model):
    config_class = Qwen2idaeConfig
    feed_forward = Qwen2idaeMLP


class Qwen2idaeForCausalLM(WithHead, Qwen2ForCausalLM):
    config_class = Qwen2idaeConfig
    base = Qwen2idaeModel


class SparsetralModel(Base, MistralModel):
    config_class = SparsetralConfig
    feed_forward = SparsetralMLP


class SparsetralForCausalLM(WithHead, MistralForCausalLM):
    config_class = SparsetralConfig
    base = SparsetralModel
