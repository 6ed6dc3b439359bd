"""A project of a small language model with a tokenizer, as users have it: a folder and a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from srinit import cli
from srinit.rng import isolated_rng

WORDS = [
    *("the", "cat", "dog", "bird", "sat", "ran", "flew", "on", "under"),
    *("mat", "tree", "house", "a", "red", "green", "big", "small", "and"),
]
CHAT = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}\n{% endfor %}"
CONFIG = """
model: hf:net
data: {source: "text:stories.txt", batch_size: 16, text: {length: 12}}
score: next_token_accuracy
device: cpu
scan: {scheme: default, half_width: 0.4}
plan: {params: 0.8, trial_examples: 0, beside: []}
compensate: {method: none}
finetune: {epochs: 0}
export: {onnx: false, torch_export: false}
report: {pictures: 0, languages: [en]}
compare: {latency_batches: [1]}
registry: {track: false}
gates: {max_drop: 0.9, max_class_recall_drop: null}
"""


def documents(count: int = 60, seed: int = 0) -> list[str]:
    """Return short texts of few words, no two the same."""
    import numpy as np

    random = np.random.default_rng(seed)
    return [
        f"{' '.join(random.choice(WORDS, size=int(random.integers(5, 30))))} {number % 7}"
        for number in range(count)
    ]


def tokenizer() -> Any:
    """Return a fast tokenizer of whole words with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", "<unk>", *WORDS, *map(str, range(10)), "<", ">", "user"]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        unk_token="<unk>",
    )  # fmt: skip
    made.chat_template = CHAT
    return made


def project(folder: Path, kind: str = "Llama", layers: int = 4, **sizes: Any) -> Path:
    """Write a network, its tokenizer, a text and a config; return the folder."""
    import transformers

    body = {
        "vocab_size": 48, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": layers,
        "num_attention_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **sizes,
    }  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(**body)
    found = getattr(transformers, f"{kind}ForCausalLM", None) or getattr(
        transformers, f"{kind}LMHeadModel"
    )
    with isolated_rng(0):
        model = found(config)
        for parameter in model.parameters():
            parameter.data.mul_(3)
    model.save_pretrained(folder / "net")
    tokenizer().save_pretrained(folder / "net")
    (folder / "net" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    (folder / "stories.txt").write_text("\n\n".join(documents()))
    (folder / "srinit.yaml").write_text(CONFIG)
    return folder


def run(project: Path, capsys: Any, *changes: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON of `srinit run` with changes of the config."""
    pairs = [part for change in changes for part in ("--set", change)]
    config, out = str(project / "srinit.yaml"), str(project / "runs")
    code = cli.run(["run", "-c", config, "--out", out, *pairs, "--json"])
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, body
