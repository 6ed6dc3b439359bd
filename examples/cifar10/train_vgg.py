"""Trains the VGG-16 of this example for a few minutes, so that there is a checkpoint to prune.

    python examples/cifar10/train_vgg.py --images 12000 --epochs 3

Reads the training file alone and writes `vgg16_bn.safetensors` beside this file. The accuracy is
that of a short training, far below the 93 to 94 % such a network reaches in hundreds of epochs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from srinit.functions import load_function
from srinit.rng import isolated_rng
from srinit.sources import Preprocess, load_data

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[2] / "shared" / "data" / "cifar10-jpeg" / "train.parquet"
BATCH = 64


def main() -> None:
    """Train, and write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--images", type=int, default=12000, help="of the training file")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    draw = torch.Generator().manual_seed(args.seed)
    preprocess = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    whole = load_data(f"parquet:{args.data}", preprocess=preprocess)
    chosen = torch.randperm(len(whole), generator=draw)[: args.images].tolist()
    images, labels = map(torch.cat, zip(*whole.subset(chosen).batches(500), strict=True))
    with isolated_rng(args.seed):
        model = load_function("vgg.py:vgg16_bn", HERE)()
    model = model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = args.epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=steps)
    for epoch in range(args.epochs):
        losses = []
        order = torch.randperm(len(images), generator=draw)
        for batch in order[: len(order) // BATCH * BATCH].split(BATCH):
            x = images[batch]
            flipped = torch.rand(len(x), 1, 1, 1, generator=draw) < 0.5
            x = torch.where(flipped, x.flip(3), x).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(x), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        sys.stdout.write(f"epoch {epoch + 1}: mean loss {sum(losses) / len(losses):.3f}\n")
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, HERE / "vgg16_bn.safetensors")


if __name__ == "__main__":
    main()
