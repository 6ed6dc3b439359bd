"""One process and two give the same scan; a rank that dies ends the job, and it resumes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

import processes

TESTS = Path(__file__).resolve().parent

SCRIPT = """
    import os, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import torch
    from planted import Planted, batches_of, planted_data, units_of
    from srinit import records
    from srinit.sensitivity import Sensitivity, measure_sensitivity

    torch.set_num_threads(1)
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    kwargs = {{"fresh": {{}}, "auto": {{"scheme": "auto"}}, "whole": {{"draws": 2}}}}
    rank = int(os.environ.get("RANK", 0))
    died = folder / "died"

    def progress(*_):
        if len(sys.argv) > 3 and rank == 1 and not died.exists():
            if (folder / "journal.jsonl").read_bytes().count(b"\\n") > 4:
                died.touch()
                os._exit(9)

    model = Planted()
    found = measure_sensitivity(
        model, units_of(model, "stem", "blocks.0", "blocks.1", "head"),
        batches_of(*planted_data()), half_width=0.07, batch_size=32,
        journal=folder / "journal.jsonl", on_progress=progress,
        **{{"scheme": "default", **kwargs[kind]}},
    )
    body = {{field: getattr(found, field) for field in found.__dataclass_fields__}}
    text = records.to_json(Sensitivity(**{{**body, "seconds": None}}), schema="test/1")
    (folder / f"rank{{rank}}.json").write_text(text)
"""


def run(folder: Path, ranks: int, *args: str) -> int:
    folder.mkdir(exist_ok=True)
    script = folder / "scan.py"
    script.write_text(textwrap.dedent(SCRIPT).format(tests=str(TESTS)))
    command = (str(script), str(folder), *args)
    ended = [processes.run(*command)] if ranks == 1 else processes.run_ranks(ranks, *command)
    return max(abs(done.returncode) for done in ended)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fresh", "auto", "whole"])
def test_two_processes_give_the_scan_of_one(tmp_path: Path, kind: str) -> None:
    assert run(tmp_path / "one", 1, kind) == 0
    assert run(tmp_path / "two", 2, kind) == 0
    one = (tmp_path / "one" / "rank0.json").read_text()
    assert (tmp_path / "two" / "rank0.json").read_text() == one
    assert (tmp_path / "two" / "rank1.json").read_text() == one
    journals = [(tmp_path / name / "journal.jsonl").read_bytes() for name in ("one", "two")]
    assert journals[0] == journals[1]
    assert json.loads(one)["stopped_by"] in ("precision", "data")


@pytest.mark.slow
def test_rank_that_dies_ends_the_job_and_a_restart_resumes(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", 1, "fresh") == 0
    assert run(tmp_path / "dies", 2, "fresh", "die") != 0
    assert (tmp_path / "dies" / "died").exists()
    assert run(tmp_path / "dies", 2, "fresh", "die") == 0
    wanted = (tmp_path / "whole" / "rank0.json").read_text()
    assert (tmp_path / "dies" / "rank0.json").read_text() == wanted
