"""Pruned networks on disk: safetensors and a readable recipe; nothing that runs when it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save_file
from torch import Tensor, nn

from srinit import networks, records, store
from srinit.errors import (
    CheckpointError,
    ConfigError,
    IntegrityError,
    ModelError,
    PruneError,
    UnsafeError,
)
from srinit.plan import PrunePlan
from srinit.records import record
from srinit.state.beside import (
    empty_entries,
    fit_entries,
    freeze,
    frozen,
    is_beside,
    put_beside,
    tensors_beside,
)
from srinit.surgery import rebuild, stand_ins

SCHEMA = "srinit.recipe/1"
WEIGHTS, RECIPE = "model.safetensors", "recipe.json"
MAX_RECIPE_BYTES = 64 << 20
MOST_TIMES, SPARE_BYTES = 64, 256 << 20  # size of a Hugging Face base over that of what was kept
MOST_ARG = 1_000_000  # number of anything that a recipe's base may ask for
READING_ARGS = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "weights",
        "weights_backbone",
    }
)

Base = nn.Module | Callable[[], nn.Module] | str | Mapping[str, Any]


@record
class Recipe:
    """How to build the pruned network again: the base, the plan, the weights' hash."""

    base: dict[str, Any]  # {"source": "timm:resnet18", "args": {...}}
    plan: PrunePlan
    weights: str  # file name beside the recipe
    weights_sha256: str
    aliases: dict[str, str]  # tied tensors: name -> the name it is stored under
    preprocessing: dict[str, Any]
    metadata: dict[str, Any]
    versions: dict[str, str]
    in_place: tuple[str, ...] = ()  # what a stand-in was left for; the rest was deleted
    empty: tuple[str, ...] = ()  # parameters and buffers that are registered as None
    frozen: tuple[str, ...] | None = None  # parameters without gradient; None: as the base has them


def save_pruned(
    folder: Path | str,
    model: nn.Module,
    plan: PrunePlan,
    *,
    base: str | Mapping[str, Any],
    preprocessing: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a pruned network: `model.safetensors` and `recipe.json`; return the folder.

    Both files are written whole or not at all, the recipe last. Kept are parameters and buffers,
    also those that a state dict leaves out, tensors that are attributes of modules, their number
    formats, what is tied, and which parameters are frozen. Other attributes come from the base.

    Args:
        folder: Made if it does not exist.
        model: The pruned network, tuned or not.
        plan: What was removed from the base.
        base: Where the unpruned network comes from: a source such as "timm:resnet18" or
            "py:model.py:create", or `{"source": ..., "args": {...}}`.
        preprocessing: How inputs are made, kept for whoever uses the network.
        metadata: Anything else in JSON form, such as class names.

    Raises:
        ResourceError: The disk is full; what was there before stays.
    """
    folder = Path(folder)
    state, aliases = _stored(model)
    body = {"source": base, "args": {}} if isinstance(base, str) else dict(base)
    body = _without_folder(body)
    with store.replacing(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
        written = store.sha256_file(temporary)
    recipe = Recipe(
        base=body,
        plan=plan,
        weights=WEIGHTS,
        weights_sha256=written,
        aliases=aliases,
        preprocessing=dict(preprocessing or {}),
        metadata=dict(metadata or {}),
        versions={name: version(name) for name in ("srinit", "torch", "safetensors")},
        in_place=stand_ins(model),
        empty=empty_entries(model),
        frozen=frozen(model),
    )
    store.write_text(folder / RECIPE, records.to_json(recipe, schema=SCHEMA))
    return folder


def _without_folder(base: dict[str, Any]) -> dict[str, Any]:
    """Return the base with the config of a Hugging Face folder in it, where that can be read."""
    kind, _, name = str(base.get("source", "")).partition(":")
    if kind != "hf":
        return base
    try:
        root = Path(base.get("root") or "")
        args = networks.self_contained(base.get("args", {}), name, root)
    except PruneError:
        return base  # the caller rebuilds it with a base of his own
    return {**base, "args": args}


def _stored(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the state dict with each tensor once, and the names that share one."""
    state: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{name} is no tensor; such extra state cannot be saved.")
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in seen:
            aliases[name] = seen[key]
        else:
            seen[key] = name
            state[name] = tensor.detach()
    state |= tensors_beside(model)
    return {key: _alone(tensor) for key, tensor in state.items()}, aliases


def _alone(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU, contiguous, that is all of its storage; a copy only if needed."""
    found = tensor.cpu().contiguous()
    is_whole = found.untyped_storage().nbytes() == found.nbytes
    return found if is_whole else found.clone()


def read_recipe(folder: Path | str) -> Recipe:
    """Return the recipe of a saved network.

    Raises:
        CheckpointError: There is none.
        ConfigError: It is not a recipe.
    """
    path = Path(folder) / RECIPE
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no {RECIPE}; it is no saved network of srinit.")
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_RECIPE_BYTES:,} bytes; that is no recipe.")
    return records.from_json(Recipe, path.read_bytes(), schema=SCHEMA, where=str(path))


def load_pruned(
    folder: Path | str,
    *,
    base: Base | None = None,
    trust_code: bool = False,
    root: Path | None = None,
    runs: Callable[[Path], nn.Module] | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Return a saved network, bit for bit, in evaluation mode.

    The unpruned network is built from its source, the plan is carried out on it, and the weights
    are loaded strictly after their hash was checked.

    Args:
        folder: What `save_pruned` wrote.
        base: The unpruned network in place of the recipe's source: a module, a function that
            returns one, or a source. Its weights do not matter.
        trust_code: Run the Python file that a `py:` recipe names. Only for recipes you wrote.
        root: Folder that relative paths of the source start from; default the working directory.
        runs: Loads the network of another run folder, where the recipe's base is one.
        device: Where the network goes.

    Raises:
        UnsafeError: The recipe names code, and neither `base` nor `trust_code` is given.
        IntegrityError: The weights are not those the recipe was written with.
        CheckpointError: They do not fit the network.
    """
    recipe = read_recipe(folder)
    path = Path(folder) / WEIGHTS
    if recipe.weights != WEIGHTS:
        raise UnsafeError(f"{folder}: the recipe names {recipe.weights!r} instead of {WEIGHTS}.")
    state = _weights(path, recipe)  # checked before any code that the recipe names runs
    model = rebuild(
        _base(recipe, base, folder, root, runs, trust_code=trust_code),
        [removal.unit for removal in recipe.plan.remove],
        in_place=recipe.in_place,
        inputs=recipe.plan.inputs,
    )
    beside = {key: state.pop(key) for key in list(state) if is_beside(key)}
    fit_entries(model, state, recipe.empty)
    _take_dtypes(model, state)
    networks.load_weights(model, state, where=str(path))
    _tie(model, recipe.aliases)
    lost = put_beside(model, beside)
    if lost:
        raise CheckpointError(
            f"{path} holds {lost[0]!r}, for which {type(model).__name__} has no place; its base is "
            "another than that of the saved network. Pass the right one: load_pruned(base=...)."
        )
    if recipe.frozen is not None:
        freeze(model, recipe.frozen)
    return model.to(device).eval()


def _take_dtypes(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give the rebuilt network's tensors the dtypes they were saved in, in place."""
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and name in state and value.dtype != state[name].dtype:
            value.data = value.data.to(state[name].dtype)


def _tie(model: nn.Module, aliases: Mapping[str, str]) -> None:
    """Let names that shared a tensor share one again, where the base was built without it."""
    for alias, name in aliases.items():
        (holder, key), (source, original) = _place(model, alias), _place(model, name)
        for table in ("_parameters", "_buffers"):
            mine, theirs = getattr(holder, table), getattr(source, table)
            if key in mine and original in theirs:
                mine[key] = theirs[original]


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, last = name.rpartition(".")
    return model.get_submodule(path), last


def _base(
    recipe: Recipe,
    base: Base | None,
    folder: Path | str,
    root: Path | None,
    runs: Callable[[Path], nn.Module] | None,
    *,
    trust_code: bool,
) -> nn.Module:
    if isinstance(base, nn.Module):
        return base
    if callable(base):
        made = base()
        if not isinstance(made, nn.Module):
            raise ModelError(f"base= returned {type(made).__name__}, not an nn.Module.")
        return made
    body: Mapping[str, Any] = recipe.base
    if isinstance(base, str):
        body = {"source": base, "args": recipe.base.get("args", {})}
    elif base is not None:
        body = base
    source = body.get("source")
    if not isinstance(source, str) or not isinstance(body.get("args", {}), dict):
        raise ConfigError(f"{folder}: the recipe's base has no source.")
    args = dict(body.get("args", {}))
    if base is None and source.startswith("hf:") and "config" in args:
        args.setdefault("auto", "AutoModel")  # recipes that name no class meant this one
    if base is None and not trust_code and not source.startswith(("timm:", "torchvision:", "hf:")):
        raise UnsafeError(
            f"{folder}: building this network runs code that the recipe names ({source}). "
            f"If you wrote it: load_pruned(folder, base={source!r}), or trust_code=True."
        )
    if base is None and not trust_code:
        _check_harmless(source, args, folder)
        size = (Path(folder) / WEIGHTS).stat().st_size
        networks.check_sizes(args, limit=MOST_TIMES * size + SPARE_BYTES)
    if root is None and body.get("root"):
        root = Path(body["root"])
    kind, _, name = source.partition(":")
    if kind == "run":
        if runs is None:
            raise UnsafeError(
                f"{folder}: this network was cut from that of another run ({source}), whose seal "
                "is not checked here; load it as run:FOLDER in a config, or give base=."
            )
        return runs((root or Path()) / name)
    return networks.load_model(source, args=args, root=root, bare=True)


def _check_harmless(source: str, args: Mapping[str, Any], folder: Path | str) -> None:
    """Refuse what an artifact of somebody else could fetch or read through its recipe."""
    kind, _, name = source.partition(":")
    reads = sorted(READING_ARGS & set(args))
    outside = (
        kind == "hf"
        and "config" not in args
        and (Path(name).is_absolute() or ".." in Path(name).parts)
    )
    absurd = [key for key, value in args.items() if isinstance(value, int) and value > MOST_ARG]
    if absurd:
        raise ConfigError(f"{folder}: the recipe's base has {absurd[0]} = {args[absurd[0]]}.")
    if reads or outside or (kind != "hf" and not re.fullmatch(r"[\w.\-]+", name)):
        what = f"the argument {reads[0]!r}" if reads else repr(source)
        raise UnsafeError(
            f"{folder}: the recipe's base would fetch or read other files ({what}). If you wrote "
            "it: load_pruned(folder, base=...) with the source written out, or trust_code=True."
        )


def _weights(path: Path, recipe: Recipe) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}.") from None
    if store.sha256_bytes(content) != recipe.weights_sha256:
        raise IntegrityError(
            f"{path} is not the file that {RECIPE} was written with (other SHA-256); "
            "it was changed or damaged. Restore both from the registry or a backup."
        )
    try:
        state = dict(parse_safetensors(content))
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    missing = [name for name in recipe.aliases.values() if name not in state]
    if missing:
        raise CheckpointError(f"{path} lacks {missing[0]}, which the recipe ties others to.")
    return state | {name: state[other] for name, other in recipe.aliases.items()}
