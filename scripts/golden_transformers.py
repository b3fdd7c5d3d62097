"""Writes the engine's golden files; scripts/golden-transformers runs it."""

import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import numpy as np
import torch
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM
from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeTopKRouter

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Written for these tests: digits, white space of every kind, contractions, emoji with joiners,
# scripts, marks, special tokens.
SENTENCES = [
    "Hello, world!",
    "I'll say it: WE'VE got 1234567890 apples, don't we? They're Anna's.",
    "tabs\there\t\tand there,\nnew lines\n\n\nand\r\nothers  \n  indented",
    "   leading, trailing and   inner spaces   ",
    "3.14159 + 2.71828 = 5.85987; 1/2 is 50%; x² + y³ ≤ 10⁻⁶; Ⅷ ½",
    "emoji: 😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 and text",
    "中文字符和日本語のテキスト、한국어 문장도 있습니다。",
    (
        "combining: e\u0301 n\u0303 a\u030a; composed: é ñ å; "
        "Hangul: \u1112\u1161\u11ab; order: q\u0323\u0307 q\u0307\u0323"
    ),
    "Здравствуй, мир! Γειά σου Κόσμε! مرحبا بالعالم שלום עולם",
    (
        "no-break\u00a0space, ideographic\u3000space, next\u0085line, "
        "line\u2028separator, zero\u200bwidth"
    ),
    "a special token<|endoftext|>in the middle, <|im_start|>user\nhi<|im_end|>  and after",
    "<|endoftext|><|endoftext|>",
    "def f(x):\n    return x ** 2  # comment\n\n\tprint(f(3))\n",
    "ligature ﬁ, fullwidth ＡＢＣ１２３, Å (angstrom) and Ω (ohm), ſ",
    (
        "hyphen-ated under_score CamelCase snake_case ALLCAPS "
        "'quoted' \"double\" (paren) [brack] {brace} <tag/>"
    ),
    "supplementary: 𝒳 𐍈 𠜎 and controls: \x01\x7f",
    "\n",
    " ",
    "",
]


def train_tokenizer(kind, texts):
    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "gpt2")
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN2_PATTERN), behavior="isolated", invert=False),
                byte_level,
            ]
        )
    else:
        tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    if kind == "gpt2":  # a normalised token that includes the white space around it
        tokenizer.add_tokens([AddedToken("<sep>", lstrip=True, rstrip=True, normalized=True)])
    return tokenizer


def fnv1a(ids):
    value = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def write_tokenizers(questions, out):
    train = [json.loads(line)["question"] for line in questions.open()]
    prompts = pathlib.Path("scripts/demo-prompts.txt").read_text().strip().split("\n\n---\n\n")
    golden = {"texts": SENTENCES + ["one <sep> two<sep>three"], "tokenizers": {}}
    for kind in ("qwen2", "gpt2"):
        tokenizer = train_tokenizer(kind, train + SENTENCES)
        saved = json.loads(tokenizer.to_str())
        if kind == "gpt2":  # as older versions of the library wrote them
            saved["model"]["merges"] = [" ".join(pair) for pair in saved["model"]["merges"]]
        path = out / f"tokenizer_{kind}.json"
        path.write_text(json.dumps(saved, ensure_ascii=False, separators=(",", ":")) + "\n")
        tokenizer = Tokenizer.from_file(str(path))
        ids = [tokenizer.encode(text).ids for text in golden["texts"]]
        golden["tokenizers"][kind] = {
            "ids": ids,
            "decoded": [tokenizer.decode(one, skip_special_tokens=False) for one in ids],
            "decoded_plain": [tokenizer.decode(one, skip_special_tokens=True) for one in ids],
            # any subset of ids: characters may be incomplete
            "decoded_tails": [tokenizer.decode(one[1::2], skip_special_tokens=True) for one in ids],
            "demo_prompts_fnv1a": [fnv1a(tokenizer.encode(prompt).ids) for prompt in prompts],
        }
    (out / "tokenizers.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


@torch.no_grad()
def run_reference(model, prompts, new_tokens):
    """Greedy generation with a cache, each prompt alone. Returns tokens and each row's routing."""
    model = model.float().eval()
    seen = []
    hooks = [
        module.register_forward_hook(
            lambda _module, _args, out: seen.append((out[2].clone(), out[1].clone()))
        )
        for module in model.modules()
        if isinstance(module, Qwen2MoeTopKRouter)
    ]
    requests = []
    for prompt in prompts:
        tokens, cache, fed, logits, ids, weights = list(prompt), None, 0, [], [], []
        while len(tokens) < len(prompt) + new_tokens:
            seen.clear()
            result = model(
                input_ids=torch.tensor([tokens[fed:]]), past_key_values=cache, use_cache=True
            )
            cache, fed = result.past_key_values, len(tokens)
            logits.append(result.logits[0].float().numpy())
            ids.append(np.stack([i.numpy() for i, _ in seen], axis=1))
            weights.append(np.stack([w.float().numpy() for _, w in seen], axis=1))
            tokens.append(int(result.logits[0, -1].argmax()))
        requests.append(
            (tokens, np.concatenate(logits), np.concatenate(ids), np.concatenate(weights))
        )
    for hook in hooks:
        hook.remove()
    return requests


def write_reference(path, requests, prompts):
    """The file: the length of a JSON header in 8 bytes, then the header.

    For each request follow ids uint8 and weights float32 [rows, layers, top_k], and logits float32
    [rows, vocab]; rows = tokens - 1."""
    gaps = [np.min(-np.diff(weights, axis=-1)) for *_, weights in requests]
    header = {
        "requests": [
            {
                "prompt_tokens": len(prompt),
                "tokens": tokens,
                "layers": ids.shape[1],
                "top_k": ids.shape[2],
                "vocab": logits.shape[1],
            }
            for prompt, (tokens, logits, ids, _) in zip(prompts, requests)
        ]
    }
    text = json.dumps(header).encode()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, logits, ids, weights in requests:
            out.write(
                ids.astype("<u1").tobytes()
                + weights.astype("<f4").tobytes()
                + logits.astype("<f4").tobytes()
            )
    print(f"{path}: {path.stat().st_size} bytes, smallest gap within the top-k {min(gaps):.2g}")


def write_random_model(engine, out):
    """The model of `moetrace-engine init-model`.

    Every machine makes the same weights, so that only the answers are stored."""
    prompts = [list(b"How many eggs are left?"), list("Zwölf, sagte er.\n".encode())]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([engine, "init-model", folder], check=True)
        model = Qwen2MoeForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
        )
        write_reference(out / "random_model.golden", run_reference(model, prompts, 9), prompts)


def write_small_model(out):
    """Covers what the random model leaves out.

    These are bfloat16 shards with an index, grouped heads, a dense layer, tied embeddings,
    renormalised weights and rope_parameters."""
    torch.manual_seed(7)
    config = Qwen2MoeConfig(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=40,
        num_experts=8,
        num_experts_per_tok=3,
        norm_topk_prob=True,
        mlp_only_layers=[1],
        tie_word_embeddings=True,
        max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 50000.0},
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=[95],
        pad_token_id=None,
    )
    model = Qwen2MoeForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0, 0.2 if "experts" in name or "proj" in name else 0.8)
    folder = out / "small_model"
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="48KB")
    reference = Qwen2MoeForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager"
    )
    prompts = [[1, 5, 9, 70, 33, 2, 2, 90, 14], [60, 61, 62]]
    write_reference(out / "small_model.golden", run_reference(reference, prompts, 8), prompts)


def main():
    engine, questions, out = map(pathlib.Path, sys.argv[1:4])
    out.mkdir(parents=True, exist_ok=True)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    write_tokenizers(questions, out)
    write_random_model(engine, out)
    write_small_model(out)


main()
