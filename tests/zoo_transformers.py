"""Hugging Face networks from tiny configs, random weights, with the number of units they have."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo import Case, noise, tokens

WIDTH = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 96}


def hf(model: str, config: str, inputs: dict[str, Any], **settings: Any) -> tuple[nn.Module, Any]:
    """Return a network of transformers made from a config, and its inputs."""
    import transformers

    made = getattr(transformers, config)(**settings)
    return getattr(transformers, model)(made).eval(), inputs


def text(**more: Any) -> dict[str, Any]:
    return {"input_ids": tokens(2, 8), **more}


def pairs() -> dict[str, Any]:
    return {"input_ids": tokens(2, 8), "decoder_input_ids": tokens(2, 6)}


def llama() -> tuple[nn.Module, Any]:
    return hf("LlamaForCausalLM", "LlamaConfig", text(), num_hidden_layers=4, **WIDTH)


def t5() -> tuple[nn.Module, Any]:
    settings = {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_heads": 2, "vocab_size": 96}
    return hf("T5ForConditionalGeneration", "T5Config", pairs(), num_layers=3, **settings)


def detr() -> tuple[nn.Module, Any]:
    import transformers

    backbone = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage4"],
    )
    halves = {f"{half}_{k}": v for half in ("encoder", "decoder") for k, v in HALF.items()}
    return hf(
        "DetrForObjectDetection",
        "DetrConfig",
        {"pixel_values": noise(2, 3, 64, 64)},
        use_timm_backbone=False,
        backbone_config=backbone,
        backbone=None,
        use_pretrained_backbone=False,
        d_model=32,
        num_queries=5,
        **halves,
    )


HALF = {"layers": 3, "attention_heads": 2, "ffn_dim": 48}


def whisper() -> tuple[nn.Module, Any]:
    halves = {f"{half}_{k}": v for half in ("encoder", "decoder") for k, v in HALF.items()}
    return hf(
        "WhisperModel",
        "WhisperConfig",
        {"input_features": noise(2, 8, 20), "decoder_input_ids": tokens(2, 6)},
        vocab_size=96,
        d_model=32,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=1,
        **halves,
    )


def vision(model: str, config: str, **settings: Any) -> tuple[nn.Module, Any]:
    return hf(model, config, {"pixel_values": noise(2, 3, 32, 32)}, **settings)


HUGGING_FACE = {
    "bert": Case(lambda: hf("BertModel", "BertConfig", text(), num_hidden_layers=4, **WIDTH), 4),
    "distilbert": Case(
        lambda: hf(
            "DistilBertModel", "DistilBertConfig", text(), vocab_size=96, dim=32, n_layers=4,
            n_heads=2, hidden_dim=48,
        ),
        4,
    ),
    "gpt2": Case(
        lambda: hf(
            "GPT2LMHeadModel", "GPT2Config", text(), vocab_size=96, n_embd=32, n_layer=4, n_head=2
        ),
        4,
    ),
    "llama": Case(llama, 4),
    "t5": Case(t5, 6, ("dependency",)),
    "vit": Case(
        lambda: vision(
            "ViTModel", "ViTConfig", image_size=32, patch_size=8, num_hidden_layers=4,
            hidden_size=32, num_attention_heads=2, intermediate_size=48,
        ),
        4,
    ),
    "swin": Case(
        lambda: vision(
            "SwinModel", "SwinConfig", image_size=32, patch_size=2, embed_dim=16,
            depths=[2, 2, 2], num_heads=[2, 2, 2], window_size=4,
        ),
        6,
    ),
    "whisper": Case(whisper, 6),
    "detr": Case(detr, 11),
    "segformer": Case(
        lambda: vision(
            "SegformerModel", "SegformerConfig", hidden_sizes=[8, 16, 24, 32], depths=[2] * 4,
            num_attention_heads=[1, 2, 2, 4],
        ),
        8,
    ),
    "albert": Case(
        lambda: hf(
            "AlbertModel", "AlbertConfig", text(), num_hidden_layers=4, embedding_size=16, **WIDTH
        ),
        0,
        ("shared",),
    ),
}  # fmt: skip
