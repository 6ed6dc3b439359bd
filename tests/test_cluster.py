"""Job files are well formed, and the page shows what was measured and what was simulated."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "examples" / "cluster"


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield importlib.import_module("scale")
    for name in set(sys.modules) - before:
        if name in ("scale", "cifar"):
            del sys.modules[name]


@pytest.mark.parametrize("name", ["slurm.sbatch", "srinit.sh"])
def test_job_scripts_are_shell(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(FILES / name)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("ended", "handed_on"), [(0, 0), (3, 0), (2, 2), (137, 137)])
def test_a_gate_that_says_no_is_no_failure_of_the_job(
    tmp_path: Path, ended: int, handed_on: int
) -> None:
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\necho "$@"\nexit {ended}\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["sh", str(FILES / "srinit.sh"), "run", "-c", "two words.yaml"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == handed_on
    assert done.stdout == "-m srinit run -c two words.yaml\n"


def test_the_pods_of_the_job_find_each_other() -> None:
    service, job = yaml.safe_load_all((FILES / "kubernetes.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == 2
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert pod["restartPolicy"] == "Never"  # as a policy for failures demands
    (container,) = pod["containers"]
    (command,) = container["args"]
    port = service["spec"]["ports"][0]["port"]
    assert f"--nnodes={spec['completions']} " in command
    assert f"--master-addr={name}-0.{pod['subdomain']} --master-port={port} " in command
    assert "srinit.sh run -c" in command
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_page_shows_the_tables_of_the_result_file(scale: ModuleType) -> None:
    text, found = scale.tables()
    shown = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    assert f"<!-- scale -->\n\n{text.strip()}\n\n<!-- /scale -->" in shown
    kinds = {(e["kind"], e["processes"]) for e in found["entries"]}
    assert kinds >= {("measured", 1), ("measured", 2)}
    assert kinds >= {("simulated", 8), ("simulated", 64), ("simulated", 1000)}


def test_the_model_goes_through_what_was_measured_and_ends_at_the_serial_part(
    scale: ModuleType,
) -> None:
    body = json.loads(scale.PATH.read_text())
    measured = [e for e in body["entries"] if e["kind"] == "measured"]
    fitted, many = scale.fit(measured), measured[-1]
    for name, parts in fitted.items():
        for entry in measured:
            found = scale.expected(name, entry["processes"], parts, many, 1)
            seconds = entry["steps"][name][entry["where"]["clock"]]
            assert found["serial"] + found["parallel"] == pytest.approx(seconds, rel=0.02), name
        alone = scale.expected(name, 1, parts, many, 1)
        assert alone["messages"] == alone["bytes"] == 0
        wide = scale.expected(name, 10_000, parts, many, 1)
        assert wide["parallel"] == pytest.approx(
            parts["parallel"] / many["steps"][name]["pieces"], abs=1e-4
        )
