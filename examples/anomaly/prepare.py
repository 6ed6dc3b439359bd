"""Puts your pretrained ResNet-18 and a bank of your good parts into one file of weights.

    python prepare.py resnet18.safetensors parts/train/good 224

The picture size is that of data.preprocess in srinit.yaml, and so is the normalization.
"""

import sys
from pathlib import Path

from model import Stages, detector
from safetensors.torch import load_file, save_file
from torchvision.models import resnet18

from srinit.sources import Preprocess, load_data


def main() -> None:
    """Write detector.safetensors."""
    weights, folder, size = sys.argv[1:]
    net = resnet18(weights=None)
    net.load_state_dict(load_file(weights))
    found = detector()
    found.backbone = Stages(net)
    data = load_data(f"images:{folder}", preprocess=Preprocess(size=(int(size), int(size))))
    found.fit_good(inputs for inputs, _ in data.batches(16))
    state = {key: value.contiguous() for key, value in found.state_dict().items()}
    save_file(state, Path("detector.safetensors"))


if __name__ == "__main__":
    main()
