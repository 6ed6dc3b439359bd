"""Tiny configs of Hugging Face architectures: one table of small sizes, and what deviates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SIZES: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embed_dim": 32,
    "embedding_size": 32, "num_hidden_layers": 4, "n_layer": 4, "n_layers": 4, "num_layers": 4,
    "encoder_layers": 3, "decoder_layers": 3, "num_decoder_layers": 3, "num_attention_heads": 4,
    "n_head": 4, "n_heads": 4, "num_heads": 4, "num_key_value_heads": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "intermediate_size": 40,
    "ffn_dim": 40, "d_ff": 40, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "hidden_dim": 40,
    "head_dim": 8, "d_kv": 8, "image_size": 32, "patch_size": 8, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
    "max_source_positions": 16, "max_target_positions": 16, "num_mel_bins": 16,
    "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "rotary_dim": 4,
}  # fmt: skip
CONV = {"conv_dim": [16] * 3, "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 3]}
STAGES4 = {"hidden_sizes": [8, 16, 24, 32], "depths": [2, 2, 2, 2]}
WINDOWS = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4,
           "patch_size": 2}  # fmt: skip
ENCODERS = [
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "electra",
    "deberta",
    "deberta-v2",
    "mpnet",
    "camembert",
    "convbert",
    "nystromformer",
    "roformer",
    "squeezebert",
    "ernie",
    "fnet",
    "ibert",
    "layoutlm",
    "modernbert",
    "esm",
    "megatron-bert",
    "rembert",
    "albert",
    "splinter",
    "yoso",
    "mra",
    "luke",
    "roc_bert",
    "data2vec-text",
]
DECODERS = [
    "gpt2",
    "gpt_neox",
    "gptj",
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi",
    "phi3",
    "falcon",
    "bloom",
    "opt",
    "mpt",
    "stablelm",
    "starcoder2",
    "olmo",
    "olmo2",
    "cohere",
    "persimmon",
    "granite",
    "glm",
    "smollm3",
    "mamba",
    "codegen",
    "biogpt",
    "xglm",
    "openai-gpt",
]
T5_LIKE = ["t5", "mt5", "umt5", "longt5", "switch_transformers"]
PAIRS = ["bart", "mbart", "pegasus", "marian", "blenderbot", "m2m_100", "whisper"]
VISION = [
    "vit",
    "deit",
    "beit",
    "dinov2",
    "vit_mae",
    "yolos",
    "data2vec-vision",
    "vit_msn",
    "ijepa",
    "dinov3_vit",
    "dinov2_with_registers",
    "siglip_vision_model",
    "clip_vision_model",
]
CONFIGS: dict[str, dict[str, Any]] = {
    # encoders of text
    **{name: {} for name in ENCODERS},
    "funnel": {"architectures": ["FunnelModel"], "block_sizes": [2, 2],
               "block_repeats": [1, 1], "d_model": 32, "d_head": 8, "n_head": 4, "d_inner": 40},
    "xmod": {"default_language": "en_XX", "languages": ["en_XX"]},
    "xlnet": {"d_model": 32, "n_head": 4, "d_inner": 40, "d_head": 8},
    "longformer": {"attention_window": [4] * 4},
    "big_bird": {"attention_type": "original_full"},
    "mobilebert": {"true_hidden_size": 32, "intra_bottleneck_size": 32, "embedding_size": 32},
    # decoders of text
    **{name: {} for name in DECODERS},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "hidden_size": 32},
    # encoders and decoders of text and sound
    **{name: {"num_layers": 3} for name in T5_LIKE},
    **{name: {} for name in PAIRS},
    "led": {"attention_window": [4] * 3, "num_hidden_layers": 3},
    # vision
    **{name: {} for name in VISION},
    **dict.fromkeys(("swin", "swinv2", "donut-swin", "maskformer-swin"), WINDOWS),
    "focalnet": {"embed_dim": 16, "depths": [2, 2], "patch_size": 2, "hidden_sizes": [16, 32],
                 "focal_levels": [2, 2], "focal_windows": [3, 3]},
    **dict.fromkeys(["convnext", "convnextv2", "resnet", "regnet", "poolformer"], STAGES4),
    "bit": {**STAGES4, "num_groups": 4, "embedding_size": 8},
    "segformer": {**STAGES4, "num_attention_heads": [1, 2, 2, 4]},
    "pvt": {**STAGES4, "num_attention_heads": [1, 2, 2, 4]},
    "pvt_v2": {**STAGES4, "num_attention_heads": [1, 2, 2, 4]},
    "mobilevit": {"patch_size": 2}, "mobilenet_v2": {"image_size": 64},
    "mobilenet_v1": {"image_size": 64}, "efficientnet": {"image_size": 64, "hidden_dim": 2560},
    "swiftformer": {}, "levit": {"image_size": 64, "patch_size": 16},
    "audio-spectrogram-transformer": {"max_length": 32, "patch_size": 8},
    # sound
    **dict.fromkeys(("wav2vec2", "hubert", "wavlm", "unispeech", "data2vec-audio"), CONV),
    # several kinds at once
    "detr": {"use_timm_backbone": False, "num_queries": 5},
    "vilt": {}, "clip_text_model": {},
}  # fmt: skip
KEEPS = {  # settings whose default shall stay
    "mobilevit": {"hidden_sizes"}, "levit": {"num_attention_heads", "patch_size"},
    "mobilenet_v2": {"intermediate_size"}, "efficientnet": {"hidden_dim"},
    "regnet": {"embedding_size"},
    "funnel": {"num_hidden_layers"}, "falcon": {"head_dim"}, "xlnet": {"max_position_embeddings"},
    "detr": {"backbone"},
    "switch_transformers": {"num_experts_per_tok"},
}  # fmt: skip


def make_config(name: str) -> tuple[Any, str]:
    """Return the tiny config of an architecture, and the Auto class that builds it."""
    import transformers

    mapping = transformers.CONFIG_MAPPING
    fresh = mapping[name]()
    fixed = KEEPS.get(name, set())
    settings = {
        key: value
        for key, value in SIZES.items()
        if (hasattr(fresh, key) or key in type(fresh).attribute_map)
        and key not in fixed
        and not isinstance(getattr(fresh, key, None), list | tuple)
    }
    if name == "detr":
        settings["backbone_config"] = transformers.ResNetConfig(
            embedding_size=8, layer_type="basic", out_features=["stage4"], **STAGES4
        )
        settings["backbone"] = None
    return mapping[name](**{**settings, **CONFIGS[name]}), "AutoModel"


def inputs_for(name: str, model: nn.Module) -> Any:
    """Return inputs for a network made from `make_config(name)`."""
    main, config = model.main_input_name, model.config
    if name == "vilt":
        return {"input_ids": tokens(2, 8), "pixel_values": noise(2, 3, 32, 32)}
    if main == "pixel_values":
        size = getattr(config, "image_size", 64)
        size = size if isinstance(size, int) and size < 64 and "conv" not in name else 64
        channels = getattr(config, "num_channels", 3)
        return {main: noise(2, channels, size, size)}
    if main == "input_features":
        return {main: noise(2, 16, 32), "decoder_input_ids": tokens(2, 6)}
    if main == "input_values":
        if name == "audio-spectrogram-transformer":
            return {main: noise(2, 32, 16)}
        return {main: noise(2, 2000)}
    inputs = {"input_ids": tokens(2, 8)}
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens(2, 6)
    return inputs


def tokens(*shape: int) -> Tensor:
    """Return token numbers, none of them special."""
    return torch.randint(5, 90, shape, generator=torch.Generator().manual_seed(0))


def noise(*shape: int) -> Tensor:
    """Return normal noise, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
