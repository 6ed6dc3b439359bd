"""Plans by what is wanted: a number of units, a run of them, ends that stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import language_project
from language_project import run
from srinit import cli
from srinit.errors import PlanError
from srinit.plan import make_plan
from test_plan import scan

DROPS: list[float | None] = [0.05, 0.04, 0.01, 0.3, 0.02, 0.02, 0.03, 0.2]


def names(*numbers: int) -> tuple[str, ...]:
    return tuple(f"block.{number}" for number in numbers)


def test_a_number_of_units_takes_the_lowest() -> None:
    made = make_plan(scan(DROPS), units=3)
    assert made.names == names(2, 4, 5)
    assert made.target == {"units": 3}
    assert make_plan(scan(DROPS), units=3, remove=names(7)).names == names(7, 2, 4)


def test_ends_stay() -> None:
    made = make_plan(scan(DROPS), units=4, keep_first=3, keep_last=1)
    assert made.names == names(4, 5, 6, 3)
    assert not {*names(0, 1, 2, 7)} & set(made.ranking)
    assert (made.target["keep_first"], made.target["keep_last"]) == (3, 1)
    assert make_plan(scan(DROPS), units=0, keep_first=99, keep_last=99).ranking == ()


@pytest.mark.parametrize(
    ("count", "found"), [(2, (4, 5)), (3, (4, 5, 6)), (4, (4, 5, 6, 7)), (1, (2,))]
)
def test_a_run_has_the_lowest_sum(count: int, found: tuple[int, ...]) -> None:
    made = make_plan(scan(DROPS), units=count, contiguous=True)
    assert set(made.names) == set(names(*found))
    assert made.target["contiguous"] is True


def test_a_run_goes_round_what_is_kept_and_stays_in_its_stage() -> None:
    drops: list[float | None] = [0.5, 0.1, 0.1, 0.5, 0.5, 0.2, 0.2, 0.5]
    assert make_plan(scan(drops, 2), units=2, contiguous=True, empty_stages=True).names != names(
        1, 2
    )
    kept = make_plan(scan(drops, 4), units=2, contiguous=True, keep=names(2))
    assert set(kept.names) == set(names(5, 6))
    with pytest.raises(PlanError, match=r"no 2 units .* the longest run has 2.*a stage keeps one"):
        make_plan(scan(drops[2:], 2), units=2, contiguous=True, keep=names(0, 1))


def test_a_run_stays_within_max_drop() -> None:
    made = make_plan(scan(DROPS), units=3, contiguous=True, max_drop=0.06)
    assert set(made.names) == set(names(4, 5, 6))
    with pytest.raises(PlanError, match="no 4 units that may go follow one another"):
        make_plan(scan(DROPS), units=4, contiguous=True, max_drop=0.06)


def test_more_units_go_for_a_budget() -> None:
    whole = make_plan(scan(DROPS)).prefixes[0].params
    made = make_plan(scan(DROPS), units=2, params=whole - 50)
    assert len(made.names) == 4
    assert len(make_plan(scan(DROPS), units=6, params=whole - 50).names) == 6


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"units": 9}, "9 units are to go, and of 8 that may go there are no more"),
        ({"units": 5, "max_drop": 0.035}, "of 8 that may go within max_drop 3"),
        ({"units": -1}, "units=-1"),
        ({"contiguous": True}, "contiguous needs to know how many"),
        ({"contiguous": True, "units": 2, "params": 0.5}, "chooses all 2 units at once; params"),
        ({"contiguous": True, "units": 2, "remove": ["block.1"]}, "at once; remove"),
        ({"units": 1, "remove": ["block.1", "block.2"]}, "remove names 2 units, and units=1"),
        ({"keep_first": -1}, "keep_first and keep_last are numbers of units, not -1"),
        ({"keep_first": 2, "remove": ["block.1"]}, "both in remove and in keep"),
    ],
)
def test_what_contradicts_itself_is_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(scan(DROPS), **asked)  # type: ignore[arg-type]


def test_the_command_line_takes_numbers_runs_and_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = language_project.project(tmp_path, layers=6)
    wanted = "plan={units: 2, contiguous: true, keep_first: 1, keep_last: 2, trial_examples: 0}"
    code, body = run(project, capsys, wanted)
    assert code == 0, body
    gone = sorted(int(name.rpartition(".")[2]) for name in body["removed"])
    assert gone[1] == gone[0] + 1
    assert 1 <= gone[0] <= gone[1] <= 3
    page = (Path(body["run"]) / "report" / "report.html").read_text("utf-8")
    assert "remove 2 blocks that follow one another" in page
    assert cli.run(["plan", body["run"], "--units", "1", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert len(again["plan"]["remove"]) == 1
    code, body = run(project, capsys, wanted, "prune.rounds=2")
    assert code == 2
    assert "plan.contiguous chooses all units at once" in body["error"]["message"]
    code, body = run(project, capsys, "plan={contiguous: true}")
    assert code == 2
    assert "contiguous needs units" in body["error"]["message"]
