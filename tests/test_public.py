"""The public names, and that importing the package costs nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types

import srinit


def test_every_public_name_is_there_and_documented() -> None:
    assert list(srinit.__all__) == sorted(srinit.__all__)
    for name in srinit.__all__:
        found = getattr(srinit, name)
        assert inspect.getdoc(found), name
        assert not isinstance(found, types.ModuleType), f"{name} is a module, not the function"


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, srinit; sys.exit(any(m in sys.modules for m in ('torch', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_public_name_is_hidden_by_a_module_once_everything_is_imported() -> None:
    code = (
        "import pkgutil, srinit\n"
        "modules = {m.name for m in pkgutil.iter_modules(srinit.__path__)}\n"
        "assert not modules & set(srinit.__all__), modules & set(srinit.__all__)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
