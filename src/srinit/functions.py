"""Functions of the user's own, named as `FILE.py:FUNCTION` in a config the user wrote."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srinit.errors import ConfigError, ModelError
from srinit.rng import seed_for


def load_function(name: str, root: Path) -> Callable[..., Any]:
    """Return the function that `FILE.py:FUNCTION` names; the file is run.

    The file may import others that lie beside it.

    Args:
        name: The file, relative to `root`, and the function in it; a leading "py:" is allowed.
        root: Folder that relative paths start from.

    Raises:
        ConfigError: The name has another form.
        ModelError: No such file or function, or the file fails when it is run.
    """
    name = name.removeprefix("py:")
    file, _, function = name.rpartition(":")
    if not file.endswith(".py") or not function:
        raise ConfigError(f"py:{name} should look like py:path/file.py:function.")
    path = (root / file).absolute()
    if not path.is_file():
        raise ModelError(f"py:{name}: there is no file {path}.")
    module = _run(path)
    found = getattr(module, function, None)
    if not callable(found):
        have = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        near = difflib.get_close_matches(function, have, n=1, cutoff=0.0)
        raise ModelError(
            f"{path} has no function {function!r}" + (f"; nearest: {near[0]!r}." if near else ".")
        )
    return found  # type: ignore[no-any-return]


def _run(path: Path) -> Any:
    module_name = f"_srinit_user_{seed_for(str(path))}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their own module up
    try:
        with _importable(path.parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise ModelError(f"{path} fails when it is run: {type(error).__name__}: {error}") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
