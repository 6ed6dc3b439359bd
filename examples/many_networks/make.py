"""Make three small networks to try the workflow on: networks/NAME/ with data, weights and config.

    python make.py

Each is the demo's residual network, trained on handwritten digits with another seed. Your own
networks take their place: one folder each, with an `srinit.yaml`.
"""

from __future__ import annotations

from pathlib import Path

from srinit.demo.prepare import prepare
from srinit.observer import Silent

HERE = Path(__file__).resolve().parent
CHANGES = {  # what each config says besides: how much may remain, and how much may be lost
    "lathe": {"flops: 0.6": "flops: 0.8"},
    "press": {},
    "weld": {"flops: 0.6": "flops: 0.4", "max_drop: 0.03": "max_drop: 0.015"},  # too much
}


def main() -> None:
    """Write all folders that are not there yet."""
    for seed, (name, changes) in enumerate(CHANGES.items()):
        folder = HERE / "networks" / name
        if (folder / "srinit.yaml").is_file():
            continue
        config = prepare(folder, seed=seed, observer=Silent())
        text = config.read_text("utf-8").replace("epochs: 8", "epochs: 0")
        for old, new in {**changes, "name: digits": f"name: {name}"}.items():
            assert old in text, old
            text = text.replace(old, new)
        config.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
