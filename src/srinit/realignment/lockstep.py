"""Forwards that halt at chosen operations, so that two networks can be walked through together.

Each forward runs in a thread of its own, one at a time, and only goes on when it is told to: its
live tensors and nothing else stay in memory meanwhile. The model's own code runs as it is. An
operation is known by its number in a recorded forward (`srinit.recording.trace`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from srinit import modules
from srinit.arguments import copied
from srinit.errors import CompensationError
from srinit.recording import Trace

After = Callable[[int, Any, tuple[Any, ...], dict[str, Any], Any], None]
"""Called with number, function, arguments, keywords and result of an operation."""


class _Stopped(BaseException):
    """Ends a forward of which nothing more is needed."""


UNCOUNTED = frozenset(["aten.detach.default", "aten.alias.default", "aten.lift_fresh.default"])
"""Operations that PyTorch puts in or leaves out as it likes; nothing is computed by them."""


def counts(trace: Trace) -> list[int]:
    """Return for every operation of a recorded forward how many counted ones come before it."""
    found, count = [], 0
    for op in trace.ops:
        found.append(count)
        count += op.name not in UNCOUNTED
    return found


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, shows those that are watched, and may halt before the next."""

    def __init__(
        self, watched: Mapping[int, tuple[int, str]], after: After, halt: Callable[[], None]
    ):
        super().__init__()  # type: ignore[no-untyped-call]
        self.watched, self.after, self.halt = watched, after, halt
        self.count = -1
        self.is_due = False

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        if self.is_due:  # what was made last has reached the model's own code
            self.halt()
        name = str(func)
        if name in UNCOUNTED:
            return func(*args, **kwargs)
        self.count += 1
        number, expected = self.watched.get(self.count, (-1, name))
        if name != expected:
            raise CompensationError(
                f"operation {self.count} is {name} on these inputs and was {expected} on the "
                "example inputs; a forward whose steps depend on its inputs cannot be compensated."
            )
        result = func(*args, **kwargs)
        if number >= 0:
            self.after(number, func, args, kwargs, result)
        return result


class Halting:
    """One forward in evaluation mode without gradients that halts when and where it is told.

    Args:
        model: The network; in evaluation mode already.
        inputs: One batch.
        trace: A forward of it that was recorded.
        watched: Numbers of the operations that are shown.
        after: Called in the forward's thread after each of them.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: object,
        trace: Trace,
        watched: Iterable[int],
        after: After,
    ) -> None:
        self._model, self._inputs, self._after = model, inputs, after
        self._turn, self._halted = threading.Semaphore(0), threading.Semaphore(0)
        self._until, self._done = -1, -1  # operations: where to halt, which is done
        self._stop = False
        self._error: BaseException | None = None
        self.is_over = False
        self.output: object = None
        place = counts(trace)
        shown = {
            place[i]: (i, trace.ops[i].name) for i in watched if trace.ops[i].name not in UNCOUNTED
        }
        self._mode = _Counter(shown, self._on_after, self._halt)
        is_used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self._gpu = torch.cuda.current_device() if is_used else None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def advance(self, number: int) -> None:
        """Go on until watched operation `number` is done, or return at once where that is past.

        Raises:
            Exception: Whatever the forward raises.
        """
        if self.is_over or self._done >= number:
            return
        self._until = number
        self._turn.release()
        self._halted.acquire()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """End the forward; what it held is freed."""
        if not self.is_over:
            self._stop = True
            self._turn.release()
            self._thread.join()

    def _run(self) -> None:
        self._turn.acquire()
        try:
            if self._gpu is not None:
                torch.cuda.set_device(self._gpu)  # a thread begins with the first one
            if not self._stop:
                inputs = copied(
                    dict(self._inputs) if isinstance(self._inputs, Mapping) else self._inputs,
                    self._model,
                )
                with torch.no_grad(), self._mode:
                    self.output = modules.call_once(self._model, inputs)
        except _Stopped:
            pass
        except BaseException as error:  # handed to the thread that waits for it
            self._error = error
        finally:
            self.is_over = True
            self._inputs = None
            self._halted.release()

    def _on_after(self, number: int, *what: Any) -> None:
        self._after(number, *what)
        self._done = number
        self._mode.is_due = number >= self._until

    def _halt(self) -> None:
        self._mode.is_due = False
        self._halted.release()
        self._turn.acquire()
        if self._stop:
            raise _Stopped
