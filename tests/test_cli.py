"""The command line: help without torch, one JSON document, exit codes, no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

import processes
from srinit import cli
from srinit.errors import PruneError
from srinit.store import RunFolder, audit

GONE = ("result.json\n", "report/report.html\n")
ROOT = Path(__file__).resolve().parent.parent
VERBS = (
    "demo", "init", "doctor", "inspect", "baseline", "scan", "run", "plan", "prune",
    "finetune", "compare", "export", "alternatives", "report", "seal", "verify", "promote",
    "rollback", "monitor",
)  # fmt: skip
QUICK = tuple(
    part
    for setting in (
        "scan.scheme=permuted", "scan.half_width=0.3", "plan.trial_examples=0",
        "compare.latency_batches=[1]", "report.pictures=0", "export.onnx=false",
        "export.torch_export=false",
    )
    for part in ("--set", setting)
)  # fmt: skip
COMMON = ("--json", "--device", "--seed", "--out", "--set", "--dry-run", "--verbose")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return processes.run("-m", "srinit", *arguments)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a verb in this process, which has torch loaded already."""
    code = cli.run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


OFFLINE = """
import socket, sys

def refused(event, _):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        raise AssertionError(f"a socket was used ({event}): srinit phones home")

sys.addaudithook(refused)  # whoever made the socket, also in C
from srinit import cli
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.fixture(scope="session")
def finished(digits: Path) -> Path:
    """A finished run of that project, made with every socket blocked."""
    command = ["run", "-c", str(digits / "srinit.yaml"), "--out", str(digits / "runs"), "--json"]
    done = processes.run("-c", OFFLINE, *command)
    assert "a socket was used" not in done.stderr + done.stdout
    assert done.returncode in (0, 3), done.stderr
    return digits / "runs" / "digits"


def test_the_whole_flow_runs_with_every_socket_blocked(finished: Path) -> None:
    assert json.loads((finished / "result.json").read_text())["schema"] == "srinit.result/2"
    code = OFFLINE.replace("from srinit import cli", "socket.create_connection(('127.0.0.1', 9))")
    done = processes.run("-c", code)
    assert "a socket was used" in done.stderr  # the block would notice


@pytest.mark.slow
def test_every_flipped_bit_of_a_finished_run_is_named(finished: Path, tmp_path: Path) -> None:
    run_folder = tmp_path / "digits"
    shutil.copytree(finished, run_folder)
    files = [p for p in sorted(run_folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    assert len(files) > 20
    for path in files:
        whole = path.read_bytes()
        for change in ("flip", "cut"):
            middle = len(whole) // 2
            flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
            path.write_bytes(flipped if change == "flip" else whole[:middle])
            with pytest.raises(PruneError) as found:
                check_run(run_folder)
            assert path.name in str(found.value), f"{change} {path.name}: {found.value}"
        path.write_bytes(whole)
    check_run(run_folder)


def check_run(path: Path) -> None:
    """Do what `srinit verify` does."""
    folder = RunFolder.open(path)
    folder.verify()
    audit.verify(path / "audit.jsonl")


def test_help_names_every_verb_and_imports_no_torch() -> None:
    code = (
        "import sys\nfrom srinit import cli\ncode = cli.run(['--help'])\n"
        "assert 'torch' not in sys.modules\nassert 'numpy' not in sys.modules\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb in VERBS:
        assert f"  {verb} " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_the_common_options_and_no_other_flags_in_secret(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, verb, "--help")
    assert code == 0
    for option in COMMON:
        assert option in out


def test_a_whole_run_prints_one_json_document_and_leaves_the_run_folder(finished: Path) -> None:
    result = json.loads((finished / "result.json").read_text())
    assert result["schema"] == "srinit.result/2"
    for name in (
        "run.json", "config.yaml", "env.json", "inputs.lock.json", "audit.jsonl", "SHA256SUMS",
        "baseline/metrics.json", "baseline/predictions.npz", "scan/observations.jsonl",
        "scan/sensitivity.json", "scan/sensitivity.csv", "scan/criterion.json", "plan.json",
        "report/report.html",
        "rounds/01/model.safetensors", "rounds/01/recipe.json", "rounds/01/metrics.json",
        "rounds/01/gate.json", "rounds/01/predictions.npz", "export/pruned.onnx",
    ):  # fmt: skip
        assert (finished / name).is_file(), name


def test_stdout_is_json_and_nothing_else(finished: Path) -> None:
    done = run("verify", str(finished), "--json")
    assert json.loads(done.stdout)["ok"] is True
    assert done.returncode == 0


def test_the_last_line_names_the_next_command(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "verify", str(finished))
    assert code == 0
    assert out.strip().splitlines()[-1].startswith("next: srinit report")


def test_the_saved_network_loads_bit_equal_in_another_process(finished: Path, digits: Path) -> None:
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom srinit.artifact import load_pruned\n"
        "model = load_pruned(Path(sys.argv[1]), trust_code=True, root=Path(sys.argv[2]))\n"
        "x = torch.linspace(-1, 1, 128).reshape(2, 1, 8, 8)\n"
        "print(model(x).detach().double().sum().item().hex())"
    )
    command = ["-c", code, str(finished / "rounds" / "01"), str(digits)]
    answers = {processes.run(*command).stdout for _ in range(2)}
    assert len(answers) == 1
    assert "0x" in answers.pop()


def test_a_new_plan_sets_the_old_results_aside(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = str(digits / "srinit.yaml"), str(digits / "again")
    quick = ("--set", "name=plan", *QUICK)
    assert call(capsys, "scan", "-c", config, "--out", out, *quick)[0] == 0
    folder = digits / "again" / "plan"
    assert call(capsys, "plan", str(folder), "--remove", "stage1.1")[0] == 0
    assert call(capsys, "prune", str(folder))[0] == 0
    code, text, _ = call(capsys, "plan", str(folder), "--remove", "stage1.2", "--json")
    assert code == 0
    assert json.loads(text)["plan"]["target"] == {"remove": ["stage1.2"]}
    assert (folder / "superseded" / "01" / "plan.json").is_file()
    assert not (folder / "rounds").exists()


def test_a_resumed_run_does_nothing_twice(finished: Path, digits: Path) -> None:
    before = (finished / "scan" / "observations.jsonl").read_bytes()
    (finished / "result.json").unlink()
    (finished / "report" / "report.html").unlink()
    hashes = finished / "SHA256SUMS"
    kept = (x for x in hashes.read_text().splitlines(keepends=True) if not x.endswith(GONE))
    hashes.write_text("".join(kept))
    log = finished / "audit.jsonl"  # interrupted before the seal
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-2]))
    done = run("run", "-c", str(digits / "srinit.yaml"), "--out", str(digits / "runs"), "--json")
    assert json.loads(done.stdout)["run"] == str(finished)
    assert (finished / "scan" / "observations.jsonl").read_bytes() == before
    assert "resuming" in done.stderr


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (["scan.half_widht=0.1"], 2, "did you mean scan.half_width?"),
        (["data.source=folder:nowhere"], 4, "does not exist"),
        (["model.weights=nothing.safetensors"], 4, "nothing.safetensors does not exist"),
        (["model.args={width: 3}"], 4, "could not be built"),
        (["baseline.expected_top1=0.5"], 4, "expected 0.5000"),
        (["plan.flops=0.0001"], 2, "flops can go down to"),
        (["units.keep=[nothing]"], 2, "keep names no submodule: 'nothing'"),
        (["device=cuda:99"], 4, "device 'cuda:99' cannot be used"),
        (["data.split={calibration: 0.5, validation: 0.5}"], 2, "this needs test data"),
        (["data.preprocess.channels=3", "data.preprocess.mean=[0,0,0]",
          "data.preprocess.std=[1,1,1]"], 4, "the model does not run on the data"),
        (["data.classes=[a, b]"], 4, "data.classes"),
        (["data.test=npz:train.npz", "data.split={calibration: 0.6, validation: 0.4}"], 4,
         "600 are both in train and in test"),
        (["finetune.epochs=0", "finetune.command=train"], 2, "should name {weights} and {out}"),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_exit_code_and_no_traceback(
    digits: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    changes: list[str],
    code: int,
    message: str,
) -> None:
    pairs = [part for change in changes for part in ("--set", change)]
    config = str(digits / "srinit.yaml")
    found, out, err = call(
        capsys, "run", "-c", config, "--out", str(tmp_path), *QUICK, *pairs, "--json"
    )
    body = json.loads(out)
    assert found == code == body["exit_code"]
    assert message in body["error"]["message"]
    assert "Traceback" not in err


def test_a_failed_gate_exits_with_3_and_the_run_stays(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = call(
        capsys, "run", "-c", str(digits / "srinit.yaml"), "--out", str(tmp_path), *QUICK, "--set",
        "gates.max_drop=0.03", "--set", "finetune.epochs=0", "--set", "plan.flops=0.3", "--json",
    )  # fmt: skip
    body = json.loads(out)
    assert (code, body["passed"], body["ok"]) == (3, False, False)
    assert "allowed +3.00 points" in body["failed_gates"][0]
    assert Path(body["report"]).is_file()


def test_a_gate_that_so_few_examples_can_never_pass_is_named_before_the_work(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = call(
        capsys, "run", "-c", str(digits / "srinit.yaml"), "--out", str(tmp_path), "--set",
        "gates.max_drop=0.0001", "--json",
    )  # fmt: skip
    assert code == 2
    assert "cannot pass on" in json.loads(out)["error"]["message"]


def test_a_network_that_answers_nan_counts_as_wrong_and_is_flagged(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    state = load_file(digits / "digits.safetensors")
    state["classifier.bias"][0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    code, out, err = call(
        capsys, "baseline", "-c", str(digits / "srinit.yaml"), "--out", str(tmp_path), "--set",
        f"model.weights={tmp_path / 'nan.safetensors'}", "--set", "baseline={}", "--json",
    )  # fmt: skip
    body = json.loads(out)["baseline"]
    assert code == 0
    assert body["score"] == 0.0
    assert body["nonfinite"] == 1.0
    assert "they count as wrong" in err


def test_a_foreign_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    for verb in VERBS[VERBS.index("plan") :]:
        code, out, _ = call(capsys, verb, str(tmp_path), "--json")
        assert code == 6, verb
        assert "no run folder of srinit" in json.loads(out)["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_usage_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "scan", "--json")
    assert code == 2
    assert "--config" in json.loads(out)["error"]["message"]


def test_init_writes_a_template_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "init", str(tmp_path / "poc"))
    assert code == 0
    assert "srinit inspect" in out
    names = {path.name for path in (tmp_path / "poc").iterdir()}
    assert names == {"srinit.yaml", "model.py", "CHECKLIST.md", "README.md", "data"}
    assert call(capsys, "init", str(tmp_path / "poc"))[0] == 6


def test_doctor_finds_this_environment_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "doctor", "--json")
    assert code == 0
    assert {
        "name": "torch with torchvision",
        "text": "fit together",
        "problem": False,
        "fix": "",
    } in (json.loads(out)["checks"])


def test_a_dry_run_writes_nothing(
    digits: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    code, text, _ = call(
        capsys, "run", "-c", str(digits / "srinit.yaml"), "--out", str(out), "--dry-run", "--json"
    )
    body = json.loads(text)
    assert code == 0
    assert body["units"] == 10
    assert body["seconds"]["plan"] > 0  # the trial removals
    assert body["total_seconds"] >= sum(body["seconds"].values()) - 1
    assert not out.exists()
