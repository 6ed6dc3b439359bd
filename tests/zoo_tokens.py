"""Networks of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tied(nn.Module):
    """An embedding whose weight is the head's, tied by hand after construction."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.embed = nn.Embedding(20, 8)
        self.body = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(8, 20, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(tokens)))


class Layer(nn.Module):
    """A pre-norm transformer layer of 8 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Counting(nn.Module):
    """Reads one token and says one: what comes after it (t + 1) can be learned, and so can t."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block = nn.Embedding(8, 16), nn.Sequential(nn.Linear(16, 16), nn.Tanh())
        self.head = nn.Linear(16, 8)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        hidden = hidden + self.block(hidden)
        return self.head(hidden)
