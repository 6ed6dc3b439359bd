"""Writes the demo's folder: data, network, trained weights and config, all of it real."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from safetensors.torch import save

from srinit import store
from srinit.demo.train import train
from srinit.errors import require
from srinit.observer import Observer
from srinit.store.files import refused

TRAIN_SHARE = 0.45  # of the 1,797 digits; the rest is for choosing, stopping and testing
HERE = Path(__file__).parent


def prepare(folder: Path, *, seed: int, observer: Observer) -> Path:
    """Write the demo into `folder` and return its config file.

    The data are the 1,797 handwritten digits that scikit-learn installs (8x8 pixels; Alpaydin
    and Kaynak, Optical Recognition of Handwritten Digits, https://doi.org/10.24432/C50P49).
    The network is trained here, on the training part only.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        ResourceError: The folder cannot be made.
    """
    require("sklearn", "demo", "for the demo's handwritten digits")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)[..., None]  # N H W C
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order], digits.target[order].astype(np.int64)
    cut = round(TRAIN_SHARE * len(images))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused("make", folder, error) from error
    names = np.array([str(digit) for digit in range(10)])
    for name, part in (("train", slice(0, cut)), ("rest", slice(cut, None))):
        np.savez_compressed(
            folder / f"{name}.npz", images=images[part], labels=labels[part], class_names=names
        )
    model = train(images[:cut], labels[:cut], seed=seed, observer=observer)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    store.write_bytes(folder / "digits.safetensors", save(weights))
    shutil.copyfile(HERE / "model.py", folder / "model.py")
    config = folder / "srinit.yaml"
    store.write_text(config, (HERE / "srinit.yaml").read_text("utf-8"))
    return config
