"""Small random Mixture-of-Experts models, float32, for both vLLM and transformers; heads of 32."""

import json
import pathlib
import sys

import tokenizers
import torch
import transformers

END, VOCABULARY, EXPERTS, TOP_K, LAYERS = 257, 320, 16, 4, 4
SHAPE = dict(
    vocab_size=VOCABULARY,
    hidden_size=128,
    intermediate_size=128,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=4096,
    bos_token_id=256,
    eos_token_id=END,
    pad_token_id=258,
    moe_intermediate_size=64,
    num_experts_per_tok=TOP_K,
    tie_word_embeddings=False,
)
KINDS = {
    "Qwen2Moe": dict(
        num_experts=EXPERTS,
        shared_expert_intermediate_size=64,
        mlp_only_layers=[1],
        norm_topk_prob=False,
    ),
    "Qwen3Moe": dict(num_experts=EXPERTS, norm_topk_prob=True, head_dim=32),
    # Sigmoid scores, chosen with a bias, within groups, renormalised and scaled; the first layer is
    # dense.
    "Glm4Moe": dict(
        n_routed_experts=EXPERTS,
        n_shared_experts=1,
        n_group=4,
        topk_group=2,
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        first_k_dense_replace=1,
        head_dim=32,
        partial_rotary_factor=0.5,
    ),
}


def make(kind, folder, spread=0.1):
    """Writes `folder`: configuration, weights, and a tokenizer of bytes. Same kind, same bytes."""
    torch.manual_seed(1234)
    config = getattr(transformers, f"{kind}Config")(**SHAPE, **KINDS[kind])
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if parameter.ndim > 1 or "bias" in name:
                parameter.normal_(0, spread)
    model.save_pretrained(folder)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, "<|begin|>", "<|end|>", "<|pad|>"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={name: id for id, name in enumerate(names)}, merges=[])
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|pad|>"
    ).save_pretrained(folder)


def load(folder):
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    cls = getattr(transformers, config["architectures"][0])
    return cls.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2])
