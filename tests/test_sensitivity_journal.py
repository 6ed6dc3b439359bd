"""The journal: kills at any moment, resuming to the same bytes, refusing another scan's file."""

from __future__ import annotations

import json
import signal
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import processes
from planted import Planted, batches_of, planted_data, units_of
from srinit import records
from srinit.errors import ConfigError, ResourceError
from srinit.sensitivity import Sensitivity, measure_sensitivity
from srinit.sensitivity.journal import Journal

NAMES = ("stem", "blocks.0", "blocks.1", "head")


@pytest.fixture(scope="module")
def data() -> list[tuple[Tensor, Tensor]]:
    return batches_of(*planted_data())


def text_of(found: Sensitivity) -> str:
    body = {field: getattr(found, field) for field in found.__dataclass_fields__}
    return records.to_json(Sensitivity(**{**body, "seconds": None}), schema="test/1")


def scan(data: Any, journal: Path | None, **kwargs: Any) -> str:
    kwargs = {"scheme": "default", "half_width": 0.06, "batch_size": 32, **kwargs}
    model = Planted()
    return text_of(
        measure_sensitivity(model, units_of(model, *NAMES), data, journal=journal, **kwargs)
    )


@pytest.mark.parametrize("kwargs", [{}, {"scheme": "auto"}, {"draws": 3}])
def test_resuming_from_any_cut_gives_the_same_bytes(
    data: Any, tmp_path: Path, kwargs: dict[str, Any]
) -> None:
    whole = tmp_path / "whole.jsonl"
    wanted = scan(data, whole, **kwargs)
    assert wanted == scan(data, None, **kwargs)
    content = whole.read_bytes()
    for share in (0.0, 0.003, 0.2, 0.55, 0.97, 1.0):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(content[: int(share * len(content))])
        assert scan(data, cut, **kwargs) == wanted
        assert cut.read_bytes() == content


def test_finished_journal_is_not_measured_again(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "observations.jsonl"
    scan(data, path)
    before = path.read_bytes()
    scan(data, path)
    assert path.read_bytes() == before


def test_every_observation_is_in_the_journal(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "observations.jsonl"
    found = records.from_json(Sensitivity, scan(data, path), schema="test/1")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["schema"] == "srinit.observations/1"
    for unit in found.units:
        entries = [line["units"][unit.unit] for line in lines[1:] if unit.unit in line["units"]]
        assert sum(len(entry["scores"]) for entry in entries) == unit.num_examples


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed is 0 there and 1 now"),
        ({"scheme": "permuted"}, "scheme is 'default' there and 'permuted' now"),
        ({"half_width": 0.07}, "half_width is 0.06 there"),
    ],
)
def test_journal_of_another_scan_is_refused(
    data: Any, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "observations.jsonl"
    scan(data, path)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=words):
        scan(data, path, **change)
    assert path.read_bytes() == before


def test_journal_of_another_model_is_refused(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "observations.jsonl"
    scan(data, path)
    other = Planted()
    other.head.weight.detach().add_(1)
    with pytest.raises(ConfigError, match="model is"):
        measure_sensitivity(
            other, units_of(other, *NAMES), data, journal=path, scheme="default",
            half_width=0.06, batch_size=32,
        )  # fmt: skip


def test_damaged_line_and_all_after_it_are_measured_again(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "observations.jsonl"
    wanted = scan(data, path)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b'{"batch":2,\x00\xff\n', *lines[4:]]))
    assert scan(data, path) == wanted
    assert path.read_bytes() == content


def test_journal_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(ResourceError, match="cannot read the journal"):
        Journal(tmp_path / "folder.jsonl", {"seed": 0})


SCRIPT = """
    import signal, sys, time
    from pathlib import Path
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    sys.path.insert(0, {tests!r})
    from planted import Planted, batches_of, planted_data, units_of
    from srinit.sensitivity import measure_sensitivity

    model = Planted()
    measure_sensitivity(
        model, units_of(model, "stem", "blocks.0", "blocks.1", "head"),
        batches_of(*planted_data()), scheme="default", half_width=0.06, batch_size=32,
        journal=Path(sys.argv[1]), on_progress=lambda *_: time.sleep(0.05),
    )
"""


@pytest.mark.slow
def test_killed_scans_resume_to_the_same_bytes(data: Any, tmp_path: Path) -> None:
    tests = str(Path(__file__).resolve().parent)
    script = tmp_path / "scan.py"
    script.write_text(textwrap.dedent(SCRIPT).format(tests=tests))
    started = {}
    for name in ("SIGKILL", "SIGTERM", "SIGINT"):
        path = tmp_path / f"{name}.jsonl"
        started[name] = (
            path,
            processes.Command(str(script), str(path)),
        )
    whole = tmp_path / "whole.jsonl"
    kept = {
        name: _kill_after(process, path, 3 + number, getattr(signal, name))
        for number, (name, (path, process)) in enumerate(started.items())
    }  # all of them before anything that takes time
    wanted = scan(data, whole)
    total = whole.read_bytes().count(b"\n")
    for name, (path, _) in started.items():
        assert 3 <= kept[name] < total
        assert scan(data, path) == wanted
        assert path.read_bytes() == whole.read_bytes()


def _kill_after(process: processes.Command, path: Path, lines: int, number: int) -> int:
    """Send a signal once the journal has so many lines; return how many it has in the end."""
    try:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            if path.exists() and path.read_bytes().count(b"\n") >= lines:
                break
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) != 0
    finally:
        process.kill()
    return path.read_bytes().count(b"\n")
