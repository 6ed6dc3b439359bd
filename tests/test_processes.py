"""Commands of the tests: processes as a new Python would be, ranks as torchrun starts them."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

import processes

TOLD = "import os; print(*(f'{k}={v}' for k, v in os.environ.items() if k[:2] != '__'), sep='\\n')"


def test_a_command_has_its_own_arguments_folder_environment_streams_and_exit_code(
    tmp_path: Path,
) -> None:
    code = (
        "import os, sys\nprint(sys.argv[1:], os.getcwd(), os.environ['WORD'], __name__)\n"
        "sys.stderr.write('said')\nsys.exit(7)"
    )
    done = processes.run("-c", code, "a", cwd=tmp_path, env=processes.environment(WORD="x"))
    assert done.stdout == f"['a'] {tmp_path} x __main__\n"
    assert (done.stderr, done.returncode) == ("said", 7)


def test_an_error_is_written_and_ends_with_1_and_a_signal_with_its_number() -> None:
    done = processes.run("-c", "raise ValueError('words')")
    assert (done.returncode, "ValueError: words" in done.stderr) == (1, True)
    killed = processes.run("-c", "import os; os.kill(os.getpid(), 9)")
    assert killed.returncode == -signal.SIGKILL


def test_ranks_find_what_torchrun_gives_them(tmp_path: Path) -> None:
    script = tmp_path / "told.py"
    script.write_text(TOLD)
    arguments = ["--standalone", "--nproc-per-node", "2", "--redirects", "3"]
    done = processes.run(
        "-m", "torch.distributed.run", *arguments, "--log-dir", str(tmp_path), "--no-python",
        "env", env=processes.environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    theirs = [variables(p.read_text()) for p in sorted(tmp_path.rglob("*/stdout.log"))]
    ours = [variables(rank.stdout) for rank in processes.run_ranks(2, str(script))]
    changing = {"MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"}
    own = {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCHELASTIC_ERROR_FILE"}  # of CUDA, of its logs
    for one, other in zip(theirs, ours, strict=True):
        assert one.keys() - own == other.keys()
        assert {k: one[k] for k in other.keys() - changing} == {
            k: other[k] for k in other.keys() - changing
        }


def variables(text: str) -> dict[str, str]:
    """Return what speaks of ranks."""
    wanted = re.compile(r"(?:\w*RANK|\w*WORLD_SIZE|MASTER_\w+|ROLE_\w+|TORCH\w+)=")
    return dict(line.split("=", 1) for line in text.splitlines() if wanted.match(line))


def test_a_rank_that_fails_ends_the_others() -> None:
    code = "import os, time\nos._exit(9) if os.environ['RANK'] == '1' else time.sleep(200)"
    assert [rank.returncode for rank in processes.run_ranks(2, "-c", code)] == [-signal.SIGTERM, 9]


@pytest.mark.parametrize("code", ["import time; time.sleep(100)", "import signal; signal.pause()"])
def test_a_command_can_be_killed(code: str) -> None:
    command = processes.Command("-c", code)
    assert command.poll() is None
    command.kill()
    assert command.poll() == -signal.SIGKILL
