# SPDX-License-Identifier: Apache-2.0
"""check_vllm.py MODEL GENERATED: vLLM on an exported folder against the answer that check_transformers.py wrote.

Prints one line: the largest difference of a token's log-probability, and whether the answer is the same."""

import json
import os
import sys

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def main(folder, generated):
    from vllm import LLM, SamplingParams

    with open(generated) as file:
        expected = json.load(file)
    tokens, length, logprobs = expected["tokens"], expected["prompt"], expected["logprobs"]
    llm = LLM(model=folder, trust_remote_code=True, dtype="float32", enforce_eager=True, max_model_len=256)
    sampling = SamplingParams(temperature=0, max_tokens=len(tokens) - length, prompt_logprobs=0, logprobs=0,
                              ignore_eos=True)
    output = llm.generate([{"prompt_token_ids": tokens[:length]}], sampling)[0]
    same = list(output.outputs[0].token_ids) == tokens[length:]
    found = [output.prompt_logprobs[i][tokens[i]].logprob for i in range(1, length)]
    found += [chosen[token].logprob for chosen, token in zip(output.outputs[0].logprobs, output.outputs[0].token_ids)]
    worst = max(abs(a - b) for a, b in zip(found, logprobs)) if same else float("inf")
    chat = llm.chat([{"role": "user", "content": "Say it."}], SamplingParams(temperature=0, max_tokens=4))
    assert chat[0].outputs[0].token_ids
    print(f"result | {worst:.2g} | {'the same' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
