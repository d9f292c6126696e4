# SPDX-License-Identifier: Apache-2.0
"""check_transformers.py MODEL ADAPTER PACKED INSTRUCTIONS OUT: what transformers and PEFT make of exported folders.

MODEL is a whole model and ADAPTER the same one with export.merge = false; they are loaded with the code of their own
README.md. Writes into the folder OUT
  model.safetensors, adapter.safetensors: token ids and logits for caravan verify
  saved/: MODEL as this version of transformers saves it
  generated.json: the tokens of a greedy answer and their log-probabilities, for check_vllm.py
and prints one line: "prompts: equal n of N | generation: …". Ends with 1 when something that must be equal is not."""

import json
import re
import shutil
import struct
import sys

import torch
import transformers
from safetensors.torch import save_file

transformers.logging.set_verbosity_error()


def code_of(folder):
    """The code block of the folder's README.md, for this folder."""
    with open(folder + "/README.md") as file:
        code = re.search(r"```python\n(.*?)```", file.read(), re.DOTALL).group(1)
    assert code.count('folder = "."') == 1
    code = code.replace('folder = "."', f"folder = {json.dumps(folder)}")
    return code.replace("max_new_tokens=200", "max_new_tokens=8")


def run(code):
    names = {}
    exec(code, names)
    return names


def packed_documents(path):
    """(tokens, labelled) of each document; see docs/packed-file-format.md."""
    with open(path, "rb") as file:
        data = file.read()
    tokens, documents, _ = struct.unpack_from("<3Q", data, 24)
    offset = [struct.unpack_from("<Q", data, 48 + 24 * i)[0] for i in range(4)]
    ids = struct.unpack_from(f"<{tokens}i", data, offset[1])
    labelled = struct.unpack_from(f"<{tokens}B", data, offset[2])
    starts = struct.unpack_from(f"<{documents + 1}Q", data, offset[3])
    return [(list(ids[a:b]), list(labelled[a:b])) for a, b in zip(starts, starts[1:])]


def messages_of(record):
    messages = [{"role": "system", "content": record["instruction"]}] if record["instruction"] else []
    for turn in record["conversation"]:
        messages += [{"role": "user", "content": turn["input"]}, {"role": "assistant", "content": turn["output"]}]
    return messages


def compare_prompts(tokenizer, packed, instructions):
    """How many conversations, and prompts of their first answer, have the packed tokens; and how many there are."""
    with open(instructions) as file:
        records = json.load(file)
    documents = packed_documents(packed)
    assert len(records) == len(documents)
    prompts = wholes = 0
    for record, (ids, labelled) in zip(records, documents):
        messages = messages_of(record)
        first = [message["role"] for message in messages].index("assistant")
        prompt = tokenizer.apply_chat_template(messages[:first], add_generation_prompt=True, return_dict=True)
        whole = tokenizer.apply_chat_template(messages, return_dict=True)
        prompts += prompt["input_ids"] == ids[: labelled.index(1)]
        wholes += whole["input_ids"] == ids
    return prompts, wholes, len(records)


@torch.no_grad()
def write_logits(model, path):
    torch.manual_seed(7)
    ids = torch.randint(0, model.config.vocab_size, (3, 40))
    mask = torch.ones_like(ids)
    mask[1, 25:] = 0
    logits = model(input_ids=ids, attention_mask=mask).logits.float()
    save_file({"input_ids": ids, "attention_mask": mask, "logits": logits.contiguous()}, path)
    return logits


@torch.no_grad()
def generate(model, ids, path):
    """Greedy answers with and without a cache; whether they are the same."""
    ids = torch.tensor([ids])
    answers = [
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=None,
                       pad_token_id=0, use_cache=cache)
        for cache in (True, False)
    ]
    whole = answers[1][0]
    logits = torch.log_softmax(model(input_ids=answers[1]).logits[0].double(), dim=-1)
    with open(path, "w") as file:
        json.dump({"tokens": whole.tolist(), "prompt": ids.shape[1],
                   "logprobs": [logits[i, whole[i + 1]].item() for i in range(len(whole) - 1)]}, file)
    return torch.equal(*answers)


@torch.no_grad()
def router_under_autocast(model):
    """The largest change of a router's weights when torch.autocast would have linears computed in bfloat16."""
    router = model.model.layers[0].mlp.moe_adapter.router
    torch.manual_seed(7)
    x = torch.randn(64, model.config.hidden_size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = router(x)
    return (rounded - router(x)).abs().max().item()


def masks_of_dropout(model):
    """How many the adapters of one layer draw."""
    mixture = model.model.layers[0].mlp.moe_adapter.train()
    drawn = []
    handle = mixture.dropout.register_forward_hook(lambda module, inputs, output: drawn.append(output))
    x = torch.ones(1, 2, model.config.hidden_size)
    mixture(x, x)
    handle.remove()
    mixture.eval()
    return len({tuple(mask.flatten().tolist()) for mask in drawn})


def rotary_base_saved(folder, out):
    """The rope_theta of a configuration that was read, changed to 12345 by this version's names, and saved."""
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors"))
    with open(out + "/config.json") as file:
        fields = json.load(file)
    # As transformers 5 saves it.
    rope = {"rope_type": "default", **(fields["rope_scaling"] or {}), "rope_theta": fields["rope_theta"]}
    with open(out + "/config.json", "w") as file:
        json.dump({**fields, "rope_parameters": rope}, file)
    changed = {"rope_theta": 12345.0, "rope_scaling": None}
    if int(transformers.__version__.split(".")[0]) > 4:
        changed = {"rope_parameters": {"rope_type": "default", "rope_theta": 12345.0}}
    config = transformers.AutoConfig.from_pretrained(out, trust_remote_code=True, **changed)
    config.save_pretrained(out)
    with open(out + "/config.json") as file:
        fields = json.load(file)
    assert fields.get("rope_scaling") is None, fields["rope_scaling"]
    return fields["rope_theta"]


def main(folder, adapter, packed, instructions, out):
    whole = run(code_of(folder))  # it answers a prompt
    model, tokenizer = whole["model"].eval(), whole["tokenizer"]
    write_logits(model, out + "/model.safetensors")
    prompts, wholes, records = compare_prompts(tokenizer, packed, instructions)
    same = generate(model, packed_documents(packed)[0][0][:24], out + "/generated.json")
    model.save_pretrained(out + "/saved")
    assert router_under_autocast(model) == 0
    assert masks_of_dropout(model) == model.config.pesc_experts
    assert rotary_base_saved(folder, out + "/changed") == 12345
    names = run(code_of(adapter))
    logits = write_logits(names["model"].eval(), out + "/adapter.safetensors")
    for prompt in compare_prompts(names["tokenizer"], packed, instructions)[:2]:
        assert prompt == records
    names["model"].merge_and_unload().save_pretrained(out + "/merged")
    again = transformers.AutoModelForCausalLM.from_pretrained(out + "/merged", trust_remote_code=True)
    # What PEFT merges is added in another order.
    assert (write_logits(again.eval(), out + "/merged.safetensors") - logits).abs().max() < 1e-5
    print(f"result | {prompts} of {records} | {wholes} of {records} | {'the same' if same else 'DIFFERENT'}")
    return 0 if prompts == wholes == records and same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
