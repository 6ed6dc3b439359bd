"""Networks of other kinds than the CIFAR ResNets, trained on CIFAR-10 for the benchmarks.

    python benchmarks/networks.py bottleneck --out FOLDER [--epochs 8] [--threads 1] [--seed 0]
        [--start NAME.safetensors] [--rate 0.1]

VGG-16-BN, a vision transformer, timm's ResNet with Bottlenecks and timm's MobileNetV2 (inverted
residuals with depthwise convolutions). Training images are those that `benchmarks/cifar.py`
trains on, so that calibration, validation and test images were never seen. FOLDER gets
NAME.safetensors after every epoch and NAME.json with epochs, accuracy on the test images and
time. bfloat16 where the processor has units for it. `--start` goes on from weights that were
trained before. An interrupted training is taken up after its last epoch, its momentum begun anew.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from cifar import HERE, KEPT_ASIDE
from srinit.functions import load_function
from srinit.rng import isolated_rng
from srinit.sources import Preprocess, load_data

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def vgg() -> nn.Module:
    """Return the VGG-16-BN of the example, untrained."""
    vgg_file = HERE.parent / "examples" / "cifar10" / "vgg.py"
    made: nn.Module = load_function(f"{vgg_file}:vgg16_bn", HERE)()
    return made


def vit() -> nn.Module:
    """Return timm's vision transformer with 8 blocks of 128 channels on patches of 4x4."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=32, patch_size=4, embed_dim=128, depth=8, num_heads=4, num_classes=10
    )


def bottleneck() -> nn.Module:
    """Return timm's ResNet of 2, 3, 3, 2 Bottlenecks, half width, its first pooling left out."""
    from timm.models.resnet import Bottleneck, ResNet

    model: Any = ResNet(
        Bottleneck, [2, 3, 3, 2], num_classes=10, stem_width=32, channels=(32, 64, 128, 256)
    )
    model.maxpool = nn.Identity()
    return model


def mobilenet() -> nn.Module:
    """Return timm's MobileNetV2 of half width, stride 16 in place of 32."""
    import timm

    model: Any = timm.create_model("mobilenetv2_050", num_classes=10)
    model.conv_stem.stride = (1, 1)
    return model


NETWORKS = {"vgg": vgg, "vit": vit, "bottleneck": bottleneck, "mobilenet": mobilenet}
BATCH = 128


def build(name: str, seed: int = 0) -> nn.Module:
    """Return a network of the list, untrained."""
    with isolated_rng(seed):
        return NETWORKS[name]()


def arrays(folder: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return (images, labels) to train on and of the test, normalized."""
    import numpy as np

    preprocess = Preprocess(mean=MEAN, std=STD)
    found = []
    for part in ("train", "test"):
        data = load_data(f"parquet:{folder / f'{part}.parquet'}", preprocess=preprocess)
        if part == "train":
            order = np.random.default_rng(0).permutation(len(data)).tolist()
            data = data.subset(order[2 * KEPT_ASIDE :])
        batches = list(data.batches(1000))
        found.append((torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])))
    return found[0], found[1]


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images shifted by up to four pixels, half of them mirrored."""
    count = len(images)
    padded = F.pad(images, (4, 4, 4, 4))
    shifts = torch.randint(0, 9, (2, count), generator=generator)
    rows = shifts[0][:, None] + torch.arange(32)
    columns = shifts[1][:, None] + torch.arange(32)
    mirrored = torch.rand(count, generator=generator) < 0.5
    columns[mirrored] = columns[mirrored].flip(1)
    index = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)  # channels last


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Return top-1 accuracy, a fraction, in 32 bits."""
    model.eval()
    with torch.no_grad():
        right = sum(
            int((model(x).argmax(1) == y).sum())
            for x, y in zip(data[0].split(500), data[1].split(500), strict=True)
        )
    return right / len(data[1])


def train(name: str, args: argparse.Namespace) -> None:
    """Train one network and write it with what is known of it."""
    torch.set_num_threads(args.threads)
    (images, labels), test = arrays(args.shared / "data" / "cifar10-jpeg")
    model = build(name, args.seed).to(memory_format=torch.channels_last)
    progress = args.out / f"{name}.progress.json"
    last = json.loads(progress.read_text()) if progress.is_file() else {"epoch": 0, "seconds": 0.0}
    start = args.out / f"{name}.safetensors" if last["epoch"] else args.start
    if start is not None:
        model.load_state_dict(load_file(start))
    bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported() and name != "mobilenet"  # slower there
    steps = args.epochs * (len(images) // BATCH)
    if name == "vit":
        optimizer: Any = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=args.rate, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
    peak = optimizer.param_groups[0]["lr"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, steps, pct_start=0.2)
    for _ in range(last["epoch"] * (len(images) // BATCH)):
        schedule.step()
    generator = torch.Generator().manual_seed(args.seed + last["epoch"])
    began = time.process_time() - last["seconds"]
    for epoch in range(last["epoch"] + 1, args.epochs + 1):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        with isolated_rng(args.seed + epoch):
            for chosen in order[: len(order) // BATCH * BATCH].split(BATCH):
                x = augmented(images[chosen], generator)
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    output = model(x)
                loss = F.cross_entropy(output.float(), labels[chosen], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        found = accuracy(model, (test[0][:2000], test[1][:2000]))
        print(f"{name} epoch {epoch} loss {loss.item():.3f} test[:2000] {found:.4f} "
              f"{time.process_time() - began:.0f} s", flush=True)  # fmt: skip
        args.out.mkdir(parents=True, exist_ok=True)
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        save_file(state, args.out / f"{name}.safetensors")
        seconds = time.process_time() - began
        progress.write_text(json.dumps({"epoch": epoch, "seconds": seconds}))
    record = {
        "network": name, "epochs": args.epochs, "seed": args.seed, "batch": BATCH,
        "started_from": None if args.start is None else args.start.name, "peak_rate": peak,
        "test_accuracy": accuracy(model, test), "cpu_seconds": time.process_time() - began,
        "torch": torch.__version__,
    }  # fmt: skip
    (args.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    progress.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", choices=sorted(NETWORKS))
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--rate", type=float, default=0.1, help="peak rate of SGD")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    train(given.network, given)
