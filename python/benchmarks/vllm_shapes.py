"""Shapes of models for the vLLM benchmarks: a config.json each; vLLM makes random weights for it.

They need an H200 or an H100 with 80 GB at most; head size 128, bfloat16.
"""

import json

_COMMON = dict(
    torch_dtype="bfloat16",
    hidden_act="silu",
    rms_norm_eps=1e-6,
    rope_theta=1000000.0,
    decoder_sparse_step=1,
    mlp_only_layers=[],
    tie_word_embeddings=False,
    use_sliding_window=False,
    initializer_range=0.02,
)
SHAPES = {
    # 27 GB. Its shared expert runs on a stream of its own.
    "qwen1.5-moe": dict(
        _COMMON,
        architectures=["Qwen2MoeForCausalLM"],
        model_type="qwen2_moe",
        hidden_size=2048,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_key_value_heads=16,
        num_experts=60,
        num_experts_per_tok=4,
        moe_intermediate_size=1408,
        intermediate_size=5632,
        shared_expert_intermediate_size=5632,
        norm_topk_prob=False,
        vocab_size=151936,
        max_position_embeddings=8192,
        bos_token_id=151643,
        eos_token_id=151643,
    ),
    # 57 GB. No shared expert.
    "qwen3-30b-a3b": dict(
        _COMMON,
        architectures=["Qwen3MoeForCausalLM"],
        model_type="qwen3_moe",
        hidden_size=2048,
        num_hidden_layers=48,
        num_attention_heads=32,
        num_key_value_heads=4,
        head_dim=128,
        attention_bias=False,
        num_experts=128,
        num_experts_per_tok=8,
        moe_intermediate_size=768,
        intermediate_size=6144,
        norm_topk_prob=True,
        vocab_size=151936,
        max_position_embeddings=40960,
        max_window_layers=48,
        bos_token_id=151643,
        eos_token_id=151645,
    ),
    # 10 GB: narrow, because only its routing matters. Experts and top-k as large models have them.
    "top22-of-512": dict(
        _COMMON,
        architectures=["Qwen3MoeForCausalLM"],
        model_type="qwen3_moe",
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=128,
        attention_bias=False,
        num_experts=512,
        num_experts_per_tok=22,
        moe_intermediate_size=128,
        intermediate_size=3072,
        norm_topk_prob=True,
        vocab_size=32768,
        max_position_embeddings=40960,
        max_window_layers=24,
        bos_token_id=0,
        eos_token_id=1,
    ),
}


def write(shape, folder):
    """Makes the model folder `folder`, with nothing but a config.json. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[shape], indent=1))
    return folder


def vocabulary(model):
    """The number of token ids of a model folder."""
    config = json.loads((model / "config.json").read_text())
    return config.get("text_config", config)["vocab_size"]
