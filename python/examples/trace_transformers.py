"""Traces a Mixture-of-Experts model of Hugging Face transformers while it generates.

Needs torch and transformers.

    moetrace run -o trace.jsonl -- python3 trace_transformers.py [MODEL_DIR PROMPT]

Without a model: a small Qwen2-MoE with random weights, and made-up tokens.
"""

import sys

import moetrace
import torch
import transformers

if len(sys.argv) == 3:
    tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
    model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
    inputs = dict(tokenizer(sys.argv[2], return_tensors="pt"))
else:
    torch.manual_seed(1)
    config = transformers.Qwen2MoeConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=64,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=16,
        num_experts_per_tok=4,
    )
    model = transformers.Qwen2MoeForCausalLM(config).eval()
    inputs = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]]),
        "attention_mask": torch.ones(2, 4, dtype=torch.int64),
    }

with moetrace.trace(model, enabled=moetrace.enabled()) as producer:
    model.generate(**inputs, max_new_tokens=16)
    totals = producer.totals
print(
    f"{totals.recorded} rows recorded in {totals.steps} passes, {totals.dropped} dropped"
    if producer.trace_id
    else "not traced: set MOETRACE=1"
)
