"""One process and several compensate alike: the same choice, and weights equal to the bit."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import processes
from srinit.distributed import ProcessGroup, by_itself
from srinit.realignment.equations import Equations, Geometry, Grid
from srinit.rng import generator

TESTS = Path(__file__).resolve().parent
NAMES = ("inverted residuals", "post-norm transformer")

SCRIPT = """
    import dataclasses, os, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import torch
    from safetensors.torch import save_file
    from srinit import records
    from srinit.compensation import choose, compensate, realign
    from srinit.errors import CompensationError
    from srinit.distributed import ProcessGroup, process_group
    from srinit.surgery import remove_with_origins
    from test_compensation import Branching, made, plan_of
    from srinit.rng import generator, isolated_rng
    from srinit.units import find_units

    torch.set_num_threads(1)
    folder, kind = Path(sys.argv[1]), sys.argv[2]
    rank = int(os.environ.get("RANK", 0))
    with process_group() as ranks:
        if kind == "fails":
            with isolated_rng(3):
                model = Branching().eval()
            x = torch.randn(8, 3, 6, 6, generator=generator("steps"))
            units = find_units(model, x)
            pruned, origins = remove_with_origins(model, [units["blocks.1"]], example_inputs=x)
            try:  # the second batch, which rank 1 has, takes other steps
                realign(model, pruned, origins, [x, x + 5], ranks=ranks)
            except CompensationError as error:
                (folder / f"rank{{rank}}.txt").write_text(str(error))
        for name in {names!r} if kind != "fails" else ():
            model, batches, units = made(name, 60)
            few = list(torch.cat(batches).split(24))  # a third process has none to fit on
            found = compensate(model, plan_of(units, list(units.names[1:2])), few, ranks=ranks)
            stem = folder / f"{{name}}.{{rank}}"
            save_file(found.model.state_dict(), f"{{stem}}.safetensors")
            stem.with_suffix(f".{{rank}}.json").write_text(
                records.to_json(found.choice, schema="test/1")
            )
            pruned, origins = remove_with_origins(
                model, [units[units.names[1]]], example_inputs=batches[0][:2]
            )
            anew = realign(model, pruned, origins, few[:2], budget=0, ranks=ranks)
            save_file(anew.changes, f"{{stem}}.anew.safetensors")
"""


def run(folder: Path, number: int, kind: str) -> None:
    folder.mkdir()
    script = folder / "compensate.py"
    script.write_text(textwrap.dedent(SCRIPT).format(tests=str(TESTS), names=NAMES))
    command = (str(script), str(folder), kind)
    ended = [processes.run(*command)] if number == 1 else processes.run_ranks(number, *command)
    for done in ended:
        assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("number", [3])
def test_several_processes_give_the_network_and_the_choice_of_one(
    tmp_path: Path, number: int
) -> None:
    run(tmp_path / "one", 1, "works")
    run(tmp_path / "several", number, "works")
    for name in NAMES:
        wanted = load_file(tmp_path / "one" / f"{name}.0.safetensors")
        anew = load_file(tmp_path / "one" / f"{name}.0.anew.safetensors")
        choice = (tmp_path / "one" / f"{name}.0.json").read_text()
        assert json.loads(choice)["chosen"].startswith("realigned")
        for rank in range(number):
            stem = tmp_path / "several" / f"{name}.{rank}"
            assert equal(load_file(f"{stem}.safetensors"), wanted), (name, rank)
            assert equal(load_file(f"{stem}.anew.safetensors"), anew), (name, rank)
            assert Path(f"{stem}.json").read_text() == choice


def test_what_one_process_cannot_compensate_all_refuse(tmp_path: Path) -> None:
    run(tmp_path / "fails", 2, "fails")
    said = [(tmp_path / "fails" / f"rank{rank}.txt").read_text() for rank in (0, 1)]
    assert said[0] == said[1]
    assert "depend on its inputs" in said[0]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


def test_sums_do_not_depend_on_the_order_of_the_batches() -> None:
    random = generator("order")
    sizes = torch.logspace(-2, 2, 12)  # channels of very different size
    u = torch.randn(400, 12, generator=random) * sizes
    r = torch.randn(400, 3, generator=random)
    grid = Grid.of(Geometry(), u[:40], r[:40], 1.0)
    parts = list(enumerate(zip(u.split(40), r.split(40), strict=True)))
    found = []
    for order in (parts, parts[::-1], parts[3:] + parts[:3]):
        equations = Equations(Geometry(), grid=grid)
        for number, (a, b) in order:
            equations.add(a, b, number=number)
        equations.total(ProcessGroup(alone=True), u)
        found.append(equations)
    for other in found[1:]:
        assert torch.equal(found[0].gram, other.gram)
        assert torch.equal(found[0].right, other.right)
    wide = torch.cat([u, torch.ones(400, 1)], 1).double()
    scale = wide.pow(2).sum(0).sqrt()
    exact = (wide.T @ wide) / scale / scale[:, None]
    assert (found[0].gram[0] / scale / scale[:, None] - exact).abs().max() < 1e-5


def test_channels_that_the_first_batch_does_not_show_are_summed_too() -> None:
    geometry = Geometry(groups=4, kernel=(1, 1), has_bias=False)
    u = torch.randn(8, 4, 3, 3, generator=generator("dead"))
    u[:4, 1] = 0.0
    equations = Equations(geometry)
    for number in (0, 1):
        equations.add(u[4 * number :][:4], u[4 * number :][:4], number=number)
    equations.total(ProcessGroup(alone=True), u)
    wanted = u.double().pow(2).sum((0, 2, 3))
    torch.testing.assert_close(equations.gram.flatten(), wanted, rtol=1e-5, atol=0.0)
    torch.testing.assert_close(equations.right.flatten(), wanted, rtol=1e-5, atol=0.0)


def test_the_positions_that_are_read_depend_on_the_batch_alone() -> None:
    u, r = torch.randn(90, 4, generator=generator("rows")), torch.ones(90, 2)
    one, other = (Equations(Geometry(), share=0.3) for _ in range(2))
    one.add(u, r, number=5)
    other.add(u, r, number=5)
    assert torch.equal(one.gram, other.gram)
    another = Equations(Geometry(), share=0.3)
    another.add(u, r, number=6)
    assert not torch.equal(one.gram, another.gram)


def test_a_process_by_itself_is_rank_0_of_1() -> None:
    with by_itself():
        ranks = ProcessGroup()
    assert (ranks.rank, ranks.count, ranks.mine("abc")) == (0, 1, list(enumerate("abc")))
    assert ranks.gather(1.5) == [1.5]
    assert ranks.together(lambda: "done") == "done"
