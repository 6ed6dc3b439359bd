"""Networks nobody looked at while the rule was made: drawn at random, named nowhere else here.

    python benchmarks/coverage_holdout.py --seed 1     draw 40 and measure them
    python benchmarks/coverage_holdout.py --seed 1 --table    write them into docs/coverage.md

Of timm and torchvision other variants of the model files, of transformers architectures that the
coverage table leaves out, as tiny configs. A draw that cannot be tried (too large, no inputs
guessed) is reported as such, and the next one takes its place.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "coverage_holdout.jsonl"
PAGE = HERE.parent / "docs" / "coverage.md"
SHARES = {"timm": 14, "torchvision": 6, "hf": 20}
MAX_PARAMS = 60_000_000
MAX_SIDE = 320  # pixels


class UntriedError(Exception):
    """A network that the benchmark cannot try: too large, or no inputs are known."""


def pool() -> Iterator[str]:
    """Yield the cases that are named in no table and no test of this repository."""
    import timm
    import torchvision
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    from coverage_configs import CONFIGS
    from coverage_models import listing

    texts = [path.read_text() for path in (HERE.parent / "tests").glob("*.py")]
    seen = set(re.findall(r"[\w.-]+", " ".join(texts)))
    seen |= {case.partition(":")[2] for case in listing()}
    yield from (f"timm:{name}" for name in timm.list_models() if name not in seen)
    for name in torchvision.models.list_models():
        module = torchvision.models.get_model_builder(name).__module__
        if name not in seen and ".quantization." not in module:
            yield f"torchvision:{name}"
    known = {name.replace("-", "_") for name in CONFIGS}
    yield from (f"hf:{name}" for name in MODEL_MAPPING_NAMES if name.replace("-", "_") not in known)


def draw(seed: int) -> dict[str, list[str]]:
    """Return all cases of every library in a random order that the seed decides."""

    def order(case: str) -> bytes:
        return hashlib.sha256(f"{seed}:{case}".encode()).digest()

    cases = sorted(pool(), key=order)
    return {kind: [c for c in cases if c.startswith(f"{kind}:")] for kind in SHARES}


def check_size(case: str) -> None:
    """Raise `UntriedError` for a network with too many parameters or pixels."""
    import timm
    import torchvision

    kind, _, name = case.partition(":")
    with torch.device("meta"):
        try:
            if kind == "timm":
                model = timm.create_model(name)
            else:
                model = torchvision.models.get_model(name, weights=None, weights_backbone=None)
        except Exception:  # not every network can be built without values
            model = nn.Module()
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > MAX_PARAMS:
        raise UntriedError(f"{size / 1e6:.0f} M parameters")
    if kind == "timm":
        side = max(timm.get_pretrained_cfg(name).input_size[1:])
        if side > MAX_SIDE:
            raise UntriedError(f"images of {side} pixels")


def make_config(name: str) -> Any:
    """Return a tiny config of an architecture of transformers, its sub-configs tiny as well."""
    import transformers

    return tiny(transformers.CONFIG_MAPPING[name])


def tiny(kind: Any, fresh: Any = None) -> Any:
    """Return a config of a class with the small sizes of the coverage table."""
    from coverage_configs import SIZES

    fresh = kind() if fresh is None else fresh
    settings: dict[str, Any] = {}
    for key in kind.sub_configs:
        inner = getattr(fresh, key, None)
        if inner is not None and hasattr(inner, "to_dict"):
            settings[key] = tiny(type(inner), inner)
    for key, value in SIZES.items():
        try:
            known = hasattr(fresh, key) or key in type(fresh).attribute_map
            if known and not isinstance(getattr(fresh, key, None), list | tuple | dict):
                settings[key] = value
        except RuntimeError:  # said layer by layer, not of all
            continue
    try:
        return kind(**settings)
    except Exception as error:
        raise UntriedError(f"no tiny config: {type(error).__name__}: {error}") from error


def check_config(config: Any) -> None:
    """Raise `UntriedError` unless a config builds a network that is small."""
    import transformers

    try:
        with torch.device("meta"):
            model = transformers.AutoModel.from_config(config)
    except Exception as error:
        raise UntriedError(f"no tiny config: {type(error).__name__}: {error}") from error
    size = sum(parameter.numel() for parameter in model.parameters())
    if size > MAX_PARAMS:
        raise UntriedError(f"{size / 1e6:.0f} M parameters")


def guessed_inputs(model: Any) -> Any:
    """Return the first of several usual inputs that a network of transformers runs on."""
    from srinit.units.verify import run

    problems = []
    for inputs in _candidates(model):
        try:
            run(model, inputs)
        except Exception as error:
            problems.append(f"{type(error).__name__}: {str(error)[:80]}")
        else:
            return inputs
    raise UntriedError(f"no inputs known: {problems[0]}")


def _candidates(model: Any) -> Iterator[dict[str, Any]]:
    from coverage_configs import tokens
    from coverage_models import noise

    config = model.config
    channels = getattr(config, "num_channels", 3)
    channels = channels if isinstance(channels, int) else 3
    size = getattr(config, "image_size", 64)
    sides = [size if isinstance(size, int) and size <= MAX_SIDE else 64, 64, 32, 224]
    pixels = [{"pixel_values": noise(2, channels, side, side)} for side in sides]
    frames = getattr(config, "num_frames", 4)
    videos = [{"pixel_values": noise(2, frames, channels, side, side)} for side in sides]
    text = [{"input_ids": tokens(2, 8)}]
    mels = getattr(config, "num_mel_bins", 16)
    sound = [{"input_values": noise(2, 2000)}, {"input_values": noise(2, 1, 2000)}]
    shapes = [(mels, 32), (32, mels), (32, 80), (80, 64)]
    spectra = [{"input_features": noise(2, *shape)} for shape in shapes]
    main = {"pixel_values": [*pixels, *videos], "input_values": sound, "input_features": spectra}
    first = main.get(model.main_input_name, [])
    for inputs in [*first, *text]:
        yield inputs
        yield {**inputs, "decoder_input_ids": tokens(2, 6)}
    for inputs in [*pixels[:2], *sound]:
        yield {**inputs, **text[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="decides what is drawn")
    parser.add_argument("--table", action="store_true", help="write the page, all seeds measured")
    parser.add_argument("--kind", choices=SHARES, help="measure those of one library only")
    parser.add_argument("--again", help="regular expression of cases that are measured anew")
    arguments = parser.parse_args()
    if arguments.table:
        from coverage import HOLD_OUT

        text = PAGE.read_text().partition(HOLD_OUT)[0].rstrip()
        sections = [section(seed, read(seed)) for seed in seeds()]
        PAGE.write_text("\n\n".join([text, *(each.rstrip() for each in sections)]) + "\n")
        return
    sys.path.insert(0, str(HERE))
    import coverage_one  # noqa: F401 - with torch, before anything is forked
    from coverage import LIMIT, MEMORY, one, verdict

    done = read(arguments.seed)
    if arguments.again:
        done = {case: row for case, row in done.items() if not re.search(arguments.again, case)}
    for kind, cases in draw(arguments.seed).items():
        if arguments.kind not in (None, kind):
            continue
        tried = 0
        for case in cases:
            if tried == SHARES[kind]:
                break
            result = done.get(case)
            if result is None:
                result = {"seed": arguments.seed, **one(case, limit=LIMIT, memory=MEMORY)}
                with RESULTS.open("a") as file:
                    file.write(json.dumps(result) + "\n")
                print(f"{case}: {verdict(result)}", flush=True)
            tried += not untried(result)


def untried(result: dict[str, Any]) -> bool:
    """Tell whether a draw could not be tried."""
    return str(result.get("error", "")).startswith("UntriedError")


def seeds() -> list[int]:
    """Return the seeds of which something was measured."""
    lines = RESULTS.read_text().splitlines() if RESULTS.is_file() else []
    return sorted({json.loads(line)["seed"] for line in lines})


def read(seed: int) -> dict[str, dict[str, Any]]:
    """Return the latest result of every case of one draw."""
    if not RESULTS.is_file():
        return {}
    results = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return {result["case"]: result for result in results if result["seed"] == seed}


def section(seed: int, results: dict[str, dict[str, Any]]) -> str:
    """Return the section of the page on the hold-out."""
    from coverage import COLUMNS, HOLD_OUT, few, of, outcomes, problems, row_of

    tried = [row for row in results.values() if not untried(row)]
    measured = [row for row in tried if "error" not in row]
    left_out = [row for row in results.values() if untried(row)]
    counted = ", ".join(
        f"{sum(row['case'].startswith(kind) for row in tried)} of {kind}" for kind in SHARES
    )
    lines = [
        f"{HOLD_OUT}, seed {seed}",
        "",
        f"`python benchmarks/coverage_holdout.py --seed {seed}`: {len(tried)} networks ({counted})",
        "that no table and no test here names. Drawn, and left out since they could not be tried",
        f"(more than {MAX_PARAMS // 10**6} M parameters, images above {MAX_SIDE} pixels, no inputs",
        f"or tiny config guessed): {len(left_out)}.",
        "",
        "| what | found |",
        "|---|---|",
        f"| networks measured | {len(measured)} of {len(tried)} |",
        of("two or more units",
           sum(row["units"] + row["branches"] >= 2 for row in measured), len(measured)),
        *outcomes(measured),
        "",
        *COLUMNS,
        *(row_of(row) for row in sorted(measured, key=lambda row: row["case"])),
        "",
        *(f"- `{row['case']}`: {text}" for row in tried for text in problems(row)),
        *few(measured),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    main()
