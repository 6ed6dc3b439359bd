"""Commands of Python in processes of their own, forked from one that has imported torch.

A new interpreter takes seconds to import torch and what the pipeline needs. Here one process of
multiprocessing's fork server imports all of that once; every command is a fork of it: a process
of its own, with its own arguments, environment, folder and streams, that can be killed.
Where the start of an interpreter is what is tested, take `subprocess`.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.connection
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

PRELOADED = [
    "torch", "torch._dynamo", "torch.distributed", "accelerate", "numpy", "scipy.stats",
    "safetensors.torch", "pydantic", "rich.console", "rich.progress", "jinja2", "PIL.Image",
    "srinit.cli", "srinit.pipeline.run", "srinit.artifact", "srinit.report", "srinit.monitor",
]  # fmt: skip
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(PRELOADED)


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a command: this one's, one thread, and wide lines."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **changes}


def _become(
    command: Sequence[str], cwd: str, env: Mapping[str, str], streams: tuple[str, str]
) -> None:
    """Be what `python *command` would be."""
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in enumerate(streams, 1):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    torch.set_num_threads(1)  # OpenMP read the environment of the server
    kind, *rest = command
    folder = cwd if kind in ("-c", "-m") else str(Path(kind).resolve().parent)
    sys.path[0:0] = [folder, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        if kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        elif kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(command)
            runpy.run_path(kind, run_name="__main__")
    finally:
        atexit._run_exitfuncs()


class Command:
    """A command that is running; what it writes is in `stdout` and `stderr`."""

    def __init__(
        self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.command = [str(part) for part in command]
        folder = tempfile.mkdtemp(prefix="command-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._paths = tuple(Path(folder) / name for name in ("out", "err"))
        for path in self._paths:
            path.touch()
        self.process = _context.Process(
            target=_become,
            args=(
                self.command, str(cwd or Path.cwd()), dict(environment() if env is None else env),
                tuple(map(str, self._paths)),
            ),
        )  # fmt: skip
        with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):  # of the server
            self.process.start()

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def stdout(self) -> str:
        return self._paths[0].read_text("utf-8")

    @property
    def stderr(self) -> str:
        return self._paths[1].read_text("utf-8")

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self.process.exitcode

    def wait(self, timeout: float = 240) -> int:
        """Return the exit code."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise subprocess.TimeoutExpired(self.command, timeout, self.stdout, self.stderr)
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def done(self, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """Wait; return what it wrote and how it ended."""
        code = self.wait(timeout)
        return subprocess.CompletedProcess(self.command, code, self.stdout, self.stderr)


def run(
    *command: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """Run `python *command` (`-c code`, `-m module` or a script) to its end."""
    return Command(*command, cwd=cwd, env=env).done(timeout)


def run_ranks(
    number: int, *command: str, timeout: float = 240
) -> list[subprocess.CompletedProcess[str]]:
    """Run a command in processes that torchrun might have started, and as it ends them.

    Their environment is that of torchrun, whose store of meeting points is held here. If one
    fails, the others are ended.
    """
    import torch.distributed as dist

    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number), "GROUP_RANK": "0", "GROUP_WORLD_SIZE": "1",
        "ROLE_WORLD_SIZE": str(number), "ROLE_NAME": "default", "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT",
    }  # fmt: skip
    own = ("RANK", "LOCAL_RANK", "ROLE_RANK")
    ranks = [
        Command(*command, env=environment(**shared, **dict.fromkeys(own, str(rank))))
        for rank in range(number)
    ]
    deadline = time.monotonic() + timeout
    sentinels: list[Any] = [rank.process.sentinel for rank in ranks]
    while sentinels:
        ready = multiprocessing.connection.wait(sentinels, max(0.0, deadline - time.monotonic()))
        if not ready or any(rank.poll() for rank in ranks):
            for rank in ranks:
                rank.send_signal(signal.SIGTERM if ready else signal.SIGKILL)
        sentinels = [one for one in sentinels if one not in ready]
        if not ready:
            break
    return [rank.done(60) for rank in ranks]
