# SPDX-License-Identifier: Apache-2.0
"""Configurations of dense models with a mixture of adapters (PESC: Wu et al., EMNLP 2024), written by Caravan.

For transformers 4.44 and later. config.json calls the number of adapters num_experts; in memory it is pesc_experts,
since transformers, vLLM and SGLang take a model with an attribute num_experts for one of another kind of experts."""

from transformers import LlamaConfig, MistralConfig, Qwen2Config


def in_memory(fields):
    """The fields of config.json, or of a configuration in memory, for the constructor of a dense configuration."""
    mixture = {"topk": 2, "adapter_dim": 512, "moe_scaling": 0.25, "adapter_dropout": 0.0, "pesc_experts": 8}
    fields = {**mixture, **fields}
    fields["pesc_experts"] = fields.pop("num_experts", fields["pesc_experts"])
    fields = with_old_rotary_names(fields)
    # Under the names of this version alone: the others would be saved as they were when these are changed.
    if not hasattr(LlamaConfig(), "rope_parameters"):
        fields.pop("rope_parameters", None)
    elif "rope_theta" in (fields.get("rope_parameters") or {}):
        del fields["rope_theta"], fields["rope_scaling"]
    return fields


def with_old_rotary_names(fields):
    """transformers 5 keeps the rotary base in rope_parameters alone, where transformers 4 does not look."""
    rope = dict(fields.get("rope_parameters") or {})
    if "rope_theta" in rope:
        fields["rope_theta"] = rope.pop("rope_theta")
        fields["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
    return fields


class SavedNames:
    expert_name = "expert_{}"  # of an adapter, in the names of the tensors

    def to_dict(self):
        fields = super().to_dict()
        fields["num_experts"] = fields.pop("pesc_experts")
        return with_old_rotary_names(fields)


# transformers 5 makes a constructor for every class that has none of its own.
class CamelidaeConfig(SavedNames, LlamaConfig):
    model_type = "camelidae"

    def __init__(self, **fields):
        super().__init__(**in_memory(fields))


class Qwen2idaeConfig(SavedNames, Qwen2Config):
    model_type = "qwen2idae"

    def __init__(self, **fields):
        super().__init__(**in_memory(fields))


class SparsetralConfig(SavedNames, MistralConfig):
    model_type = "sparsetral"
    expert_name = "{}"

    def __init__(self, **fields):
        super().__init__(**in_memory(fields))
