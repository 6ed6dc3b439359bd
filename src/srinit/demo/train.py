"""Trains the demo's network; a plain loop, as a user's own training would be."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from srinit.demo.model import DigitNet, digit_net
from srinit.observer import Observer
from srinit.rng import isolated_rng

EPOCHS, BATCH, LEARNING_RATE = 16, 64, 0.1
MEAN, STD = 0.3, 0.37  # of the digits; srinit.yaml says the same


def train(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], *, seed: int, observer: Observer
) -> DigitNet:
    """Return a network trained on the images (N, H, W, 1) with SGD and one learning-rate cycle."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(MEAN).div(STD)
    y = torch.from_numpy(labels)
    with isolated_rng(seed):
        model = digit_net().train()
        optimizer = torch.optim.SGD(
            model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        steps = len(x) // BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, EPOCHS * steps)
        for epoch in range(EPOCHS):
            order = torch.randperm(len(x))
            for batch in (order[i * BATCH : (i + 1) * BATCH] for i in range(steps)):
                loss = F.cross_entropy(model(x[batch]), y[batch], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            observer.progress(epoch + 1, EPOCHS, f"loss {loss.item():.3f}")
    return model.eval()
