"""Which class of transformers a config stands for: the one it names, or the one asked for."""

from __future__ import annotations

from typing import Any

from torch import nn

from srinit.errors import ConfigError, UnsafeError
from srinit.networks.unknown import unknown

SET_AUTO = (
    "Name the class: model.args.auto: AutoModelForCausalLM, AutoModelForImageClassification, "
    "... or a class of transformers."
)


def model_class(config: Any, auto: str | None, where: str) -> Any:
    """Return the class that builds a config's network; classes of transformers only.

    Args:
        config: A config of transformers.
        auto: An Auto class or a model class by its name; None takes what `architectures` names.
        where: What is built, for messages.

    Raises:
        ConfigError: No class, several, or one that transformers does not have or that belongs to
            another kind of config.
        UnsafeError: The class is code that lies beside the weights.
    """
    if auto is not None and auto.startswith("AutoModel"):
        return _auto_class(auto)
    name = auto if auto is not None else _named(config, where)
    found = _of_transformers(name)
    if found is None:
        raise _no_class(config, name, auto, where)
    wanted = getattr(found, "config_class", None)
    if wanted is not None and not isinstance(config, wanted):
        raise ConfigError(
            f"{where}: {name} is built from a {wanted.__name__}, and the config is a "
            f"{type(config).__name__} (model_type {config.model_type!r}). {SET_AUTO}"
        )
    return found


def build(kind: Any, config: object) -> nn.Module:
    """Return a network of `kind` with the weights that its class starts training with."""
    make = kind.from_config if hasattr(kind, "from_config") else kind._from_config
    model: nn.Module = make(config)
    return model


def _named(config: object, where: str) -> str:
    names = list(getattr(config, "architectures", None) or ())
    if not names:
        raise ConfigError(f"{where}: its config names no class (architectures). {SET_AUTO}")
    if len(names) > 1:
        listed = ", ".join(map(str, names))
        raise ConfigError(
            f"{where}: its config names {len(names)} classes (architectures: {listed}). "
            f"Choose one: model.args.auto: {names[0]}"
        )
    return str(names[0])


def _no_class(config: Any, name: str, auto: str | None, where: str) -> Exception:
    if auto is not None:
        return unknown(f"model.args.auto {name!r}", name, _listed("AutoModel"))
    if getattr(config, "auto_map", None):
        return UnsafeError(
            f"{where}: its config names {name}, which is code beside the weights "
            f"({', '.join(config.auto_map)}); such code is never run. Build the network in a file "
            "of your own, model.source: py:FILE.py:FACTORY, or name a class of transformers in "
            "model.args.auto."
        )
    import transformers

    return ConfigError(
        f"{where}: its config names {name}, which transformers {transformers.__version__} does "
        f"not have; another version may. {SET_AUTO}"
    )


def _of_transformers(name: str) -> object:
    import transformers

    found = getattr(transformers, name, None)
    is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    return found if is_model else None


def _auto_class(name: str) -> object:
    import transformers

    found = getattr(transformers, name, None)
    if found is None:
        raise unknown(f"model.args.auto {name!r}", name, _listed("AutoModel"))
    return found


def _listed(beginning: str) -> list[str]:
    import transformers

    return [key for key in dir(transformers) if key.startswith(beginning)]
