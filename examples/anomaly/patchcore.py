"""PatchCore in sixty lines: a bank of features of good parts, on a backbone that is cut.

Roth et al., Towards Total Recall in Industrial Anomaly Detection, CVPR 2022,
https://arxiv.org/abs/2106.08265. Here without its re-weighting of the largest distance.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchCore(nn.Module):
    """How far the oddest place of a picture is from all places of good ones.

    Args:
        backbone: Gives two maps of features (B, C, H, W), the finer one first.
        channels: Of both together.
        size: Features kept in the bank.
        false_rejects: Share of good parts, held back for it, that the threshold rejects.
    """

    def __init__(self, backbone, channels, size=500, false_rejects=0.05):
        super().__init__()
        self.backbone, self.false_rejects = backbone, false_rejects
        self.register_buffer("bank", torch.zeros(size, channels))
        self.register_buffer("threshold", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return a number a picture, above 0 where it is farther than the threshold (B,)."""
        return torch.log(self.distance(x) / self.threshold)

    def distance(self, x: Tensor) -> Tensor:
        """Return the largest distance of a place from the bank (B,)."""
        rows = self.places(x)
        squares = rows.square().sum(2)[..., None] + self.bank.square().sum(1)
        nearest = (squares - 2 * rows @ self.bank.T).amin(2)
        return nearest.amax(1).clamp(min=1e-12).sqrt()

    def places(self, x: Tensor) -> Tensor:
        """Return the features of all places, each the mean of its neighbors (B, H W, C)."""
        fine, coarse = (F.avg_pool2d(each, 3, 1, 1) for each in self.backbone(x))
        coarse = F.interpolate(coarse, size=fine.shape[2:], mode="bilinear")
        return torch.cat([fine, coarse], 1).flatten(2).transpose(1, 2)

    @torch.no_grad()
    def fit_good(self, batches) -> None:
        """Fill the bank with good parts, and set the threshold on others; always the same way."""
        self.eval()
        parts = [each for batch in batches for each in batch.split(1)]
        held = parts[::4]
        rows = torch.cat([self.places(x)[0] for n, x in enumerate(parts) if n % 4])
        self.bank.copy_(rows[self.spread(rows)])
        values = torch.cat([self.distance(x) for x in held])
        self.threshold.copy_(values.quantile(1 - self.false_rejects))

    def spread(self, rows: Tensor, most: int = 20_000) -> Tensor:
        """Return rows that lie far from each other: the greedy k-center of the paper."""
        draw = torch.Generator().manual_seed(0)
        some = torch.randperm(len(rows), generator=draw)[:most].to(rows.device)
        few, chosen = rows[some], [0]
        far = torch.full((len(few),), float("inf"), device=rows.device)
        while len(chosen) < len(self.bank):
            far = torch.minimum(far, (few - few[chosen[-1]]).square().sum(1))
            chosen.append(int(far.argmax()))
        return some[chosen]
