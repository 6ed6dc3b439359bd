"""The edge package answers as the product does, where there is no torch; int8 is judged."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edge_project
from srinit import cli, int8, latency, sources
from srinit.comparison import Drop, compare_outcomes
from srinit.display import CONTROL
from srinit.evaluate import Outcomes
from srinit.gates import check_gates
from srinit.monitor import read_log
from srinit.observer import Silent
from srinit.pipeline import start
from srinit.pipeline.resources import Resources
from srinit.records import Interval
from srinit.runs import artifacts
from srinit.runs.inputs import config_of
from srinit.store import RunFolder, audit

WITHIN = 1e-4  # of a confidence


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with image files of every kind, and its finished run; no test changes it."""
    folder = tmp_path_factory.mktemp("edge")
    assert cli.run(["run", "-c", str(edge_project.make(folder))]) == 0
    return folder


@pytest.fixture(scope="module")
def package(project: Path) -> Path:
    return project / "runs" / "kinds" / "export" / "package"


@pytest.fixture(scope="module")
def python(package: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("bare")
    shutil.copy(package / "requirements.txt", folder)
    return edge_project.python_without(folder)


def asked(python: list[str], package: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*python, str(package / "predict.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def answers(found: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {line["image"]: line for line in map(json.loads, found.stdout.splitlines())}


def call(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, Any]:
    capsys.readouterr()
    code = cli.run([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_every_kind_of_file_gets_the_answer_of_the_product_without_torch(
    project: Path, package: Path, python: list[str], tmp_path: Path
) -> None:
    found = asked(python, package, project / "test", "--log", tmp_path / "preds.jsonl")
    assert (found.returncode, found.stderr) == (0, "")
    said = answers(found)
    run = project / "runs" / "kinds"
    test = Resources(config_of(RunFolder.open(run))).split("test")
    kept = np.load(run / "rounds" / "01" / "predictions.npz")
    assert set(said) == set(test.names)
    names = [edge_project.CLASSES[each] for each in kept["pruned_predictions"]]
    assert [said[name]["prediction"] for name in test.names] == names
    apart = [said[name]["confidence"] for name in test.names] - kept["pruned_confidence"]
    assert np.abs(apart).max() <= WITHIN
    assert len(set(names)) > 1
    logged = read_log(tmp_path / "preds.jsonl").predictions
    recipe = json.loads((run / "rounds/01/recipe.json").read_text())
    assert {entry.model for entry in logged} == {recipe["weights_sha256"]}
    properties = [sources_properties(test, position) for position in range(3)]
    first = {entry.image: entry for entry in logged}
    for position, name in enumerate(test.names[:3]):
        there = first[name]
        seen = (there.brightness, there.contrast, there.sharpness)
        assert seen == pytest.approx(properties[position], abs=1e-12)


def sources_properties(test: sources.DataSet, position: int) -> tuple[float, ...]:
    from srinit.monitor import image_properties

    return tuple(image_properties(test.image(position)).values())


def test_monitoring_reads_the_log_of_a_package(
    project: Path, package: Path, python: list[str], copied: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    log = tmp_path / "preds.jsonl"
    log.write_bytes(b'{"time": "2026-11-28T10:00')  # a power cut
    assert asked(python, package, project / "test", "--log", log).returncode == 0
    code, body = call(capsys, "monitor", copied, "--log", log, "--set", "monitor.window=88")
    assert (code, body["alarm"], body["num_examples"]) == (0, False, 88)
    seen = {finding["quantity"] for finding in body["watch"]["windows"][0]["findings"]}
    assert seen >= {"class_mix", "confidence", "brightness", "contrast", "sharpness"}


def test_a_package_says_what_it_is_and_its_onnx_file_carries_the_same(package: Path) -> None:
    facts = json.loads((package / "model.json").read_text("utf-8"))
    assert facts["gates"]["state"] == "passed"
    assert facts["license"] == "CC-BY-4.0"
    assert facts["input"]["shape"] == ["batch", 3, 16, 18]
    assert facts["plan"]["removed"] == ["block"]
    there = {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()}
    assert there == {*facts["files"], "model.json"}
    for name, digest in facts["files"].items():
        assert hashlib.sha256((package / name).read_bytes()).hexdigest() == digest
    props = {p.key: p.value for p in onnx.load(package / "model.onnx").metadata_props}
    assert json.loads(props["srinit.preprocess"]) == facts["preprocess"]
    assert json.loads(props["srinit.labels"]) == list(edge_project.CLASSES)
    assert json.loads(props["srinit.gates"]) == facts["gates"]
    assert props["srinit.weights_sha256"] == facts["weights_sha256"]
    with zipfile.ZipFile(package.with_suffix(".zip")) as archive:
        assert {name.removeprefix("kinds/") for name in archive.namelist()} == there
    assert len((package / "predict.py").read_text().splitlines()) < 120
    assert facts["models"][0]["answers"]["num_equal"] == 88
    assert len(facts["models"][0]["examples"]) == 10


def test_the_self_test_passes_and_names_what_was_changed(
    package: Path, python: list[str], tmp_path: Path
) -> None:
    found = asked(python, package, "--self-test")
    assert (found.returncode, found.stdout) == (0, "ok: 26 hashes, 10 answers\n")
    copy = shutil.copytree(package, tmp_path / "copy")
    how = json.loads((copy / "preprocess.json").read_text())
    (copy / "preprocess.json").write_text(json.dumps({**how, "mean": [0.0, 0.0, 0.0]}))
    found = asked(python, copy, "--self-test")
    assert found.returncode == 1
    assert "FAILED preprocess.json: missing, or other SHA-256" in found.stdout
    assert "FAILED examples/" in found.stdout
    model = copy / "model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    found = asked(python, copy, "--self-test")
    assert (found.returncode, "not the file that model.json names" in found.stderr) == (1, True)


def test_times_of_a_device_are_hashed_json(
    package: Path, python: list[str], tmp_path: Path
) -> None:
    found = asked(python, package, "--time", tmp_path / "times.json", "--repeats", "3")
    assert found.returncode == 0
    body = json.loads((tmp_path / "times.json").read_text())
    digest = body.pop("sha256")
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    assert [row["batch_size"] for row in body["times"]] == [1, 2]
    assert body["device"]["processor"]


def test_what_cannot_be_read_is_named_and_the_rest_is_answered(
    project: Path, package: Path, python: list[str], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    shutil.copy(project / "test" / "dim" / "1-color.png", tmp_path / "in" / "b.png")
    log = tmp_path / "preds.jsonl"
    found = asked(python, package, tmp_path / "in", "--log", log)
    assert found.returncode == 1
    logged = read_log(log)
    assert (len(logged.predictions), logged.failed) == (1, 1)  # monitoring counts what failed
    assert "a.png: not an image of a known format" in found.stderr
    assert list(answers(found)) == ["b.png"]
    found = asked(python, package, tmp_path / "nowhere")
    assert (found.returncode, "no such file" in found.stderr) == (1, True)


def test_names_of_files_do_nothing_to_the_terminal(
    package: Path, python: list[str], tmp_path: Path
) -> None:
    hostile = "a\x1b[31m\x9b2J\u202e\x07\udc80.png"
    example = next((package / "examples").glob("*.png")).read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / hostile).write_bytes(example)
    (folder / f"broken{hostile}").write_bytes(b"no image")
    for words in ((folder,), (tmp_path / f"none{hostile}",)):
        found = asked(python, package, *words)
        assert found.returncode == 1
        assert not CONTROL.search(found.stdout + found.stderr), ascii(found)
    found = asked(python, package, folder)
    assert json.loads(found.stdout)["image"] == hostile
    assert found.stderr.startswith("broken")


def test_a_watched_folder_is_answered_once_an_image(
    project: Path, package: Path, python: list[str], tmp_path: Path
) -> None:
    folder, log = tmp_path / "in", tmp_path / "preds.jsonl"
    folder.mkdir()
    shutil.copy(project / "test" / "dim" / "1-color.png", folder / "first.png")
    command = [*python, str(package / "predict.py"), str(folder), "--watch", "--log", str(log)]
    for arrives in ("second.png", "third.png"):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            shutil.copy(project / "test" / "dim" / "1-gray.png", folder / arrives)
            end = time.monotonic() + 30
            while time.monotonic() < end and not (
                log.exists() and arrives in {e.image for e in read_log(log).predictions}
            ):
                time.sleep(0.05)
            process.terminate()
    images = [entry.image for entry in read_log(log).predictions]
    assert sorted(images) == ["first.png", "second.png", "third.png"]


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Path:
    """A copy of the project's runs; what is made of them leaves the others as they are."""
    shutil.copytree(project / "runs", tmp_path / "runs", copy_function=shutil.copy2)
    return tmp_path / "runs" / "kinds"


def test_a_package_is_refused_after_a_failed_gate_but_for_an_override_on_record(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = call(capsys, "compare", copied, "--set", "gates.max_params_ratio=0.01")
    run = Path(body["run"])
    assert (code, (run / "export" / "package").exists()) == (3, False)
    code, body = call(capsys, "export", run, "--package")
    assert (code, "is not packaged: parameters" in body["error"]["message"]) == (6, True)
    assert audit.read(run / "audit.jsonl").entries[-1]["decision"] == "refused"
    code, body = call(capsys, "export", run, "--package", "--override")
    assert (code, "--reason" in body["error"]["message"]) == (2, True)
    code, body = call(capsys, "export", run, "--package", "--override", "--reason", "a pilot")
    assert (code, body["package"]["folder"]) == (0, str(run / "export" / "package"))
    facts = json.loads((run / "export" / "package" / "model.json").read_text())["gates"]
    assert (facts["state"], facts["reason"]) == ("overridden", "a pilot")
    last = audit.read(run / "audit.jsonl").entries[-1]
    assert (last["decision"], last["reason"]) == ("written, gate overridden", "a pilot")
    assert [call(capsys, verb, run)[0] for verb in ("report", "seal", "verify")] == [0, 3, 0]


def test_a_run_that_failed_says_why_it_was_not_packaged(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = call(capsys, "compare", copied, "--set", "gates.max_params_ratio=0.01")
    run = Path(body["run"])
    with start.open_run(run, Silent(), verb="export") as runner:
        found = runner.get(artifacts.PACKAGE)
    assert (code, found.gate, found.files) == (3, "refused", {})
    assert "is not packaged: parameters" in found.reason
    assert not (run / "export" / "package").exists()


def test_a_package_of_a_sealed_run_is_that_of_the_run_or_lies_beside_it(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = call(capsys, "export", copied, "--package")
    assert (code, body["package"]["folder"]) == (0, str(copied / "export" / "package"))
    code, body = call(capsys, "export", copied, "--set", "export.package=false")
    run = Path(body["run"])
    assert (run == copied, (run / "export" / "package.json").exists()) == (False, False)
    assert [call(capsys, verb, run)[0] for verb in ("report", "seal")] == [0, 0]
    code, body = call(capsys, "export", run, "--package")
    place = run.with_name(f"{run.name}.after") / "package"
    assert (code, body["package"]["folder"]) == (0, str(place))
    first = {p.name: p.read_bytes() for p in (copied / "export/package").iterdir() if p.is_file()}
    assert {p.name: p.read_bytes() for p in place.iterdir() if p.is_file()} == first
    assert call(capsys, "verify", run)[0] == 0


def test_a_network_without_an_onnx_file_is_not_packaged(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = call(capsys, "export", copied, "--package", "--set", "export.onnx=false")
    assert code == 4
    assert "cannot be made: there is no ONNX file of it (export.onnx: false)" in str(body)


@pytest.mark.parametrize(
    ("limits", "ratio", "unmeasured", "why"),
    [
        ({"min_agreement": 0.5}, (0.5, 0.4, 0.6), (), ""),
        ({"min_agreement": 0.5}, (1.2, 1.1, 1.3), (), "it is slower than float32 at batch 1"),
        ({"min_agreement": 0.5}, (1.0, 0.9, 1.1), (), "it is not faster than float32 at any"),
        ({"min_agreement": 0.99}, (0.5, 0.4, 0.6), (), "equal predictions"),
        ({"min_agreement": 0.5}, (0.5, 0.4, 0.6), ("max_shift_drop",), "not measured for int8"),
        ({}, (0.5, 0.4, 0.6), (), "nothing was judged"),
    ],
)
def test_int8_is_exported_only_if_the_gates_pass_and_it_is_faster(
    limits: dict[str, float], ratio: tuple[float, float, float], unmeasured: tuple[str, ...],
    why: str,
) -> None:  # fmt: skip
    right = np.ones(40)
    said = Outcomes(
        scores=right, finite=right > 0, targets=np.zeros(40, int), predictions=np.zeros(40, int),
        confidence=right,
    )  # fmt: skip
    gates = check_gates(compare_outcomes(said, said, class_names=("a", "b")), limits)
    one = latency.summarize([1.0] * 9, batch_size=1, device="cpu")
    value, low, high = ratio
    gain = latency.LatencyPair(
        baseline=one, pruned=one, ratio=Interval(value=value, low=low, high=high, confidence=0.95)
    )
    found = int8.verdict(gates, [gain], unmeasured)
    assert (why in found) if why else found == ""


def test_int8_is_compared_with_three_others_and_is_written_only_if_it_is_exported(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, body = call(capsys, "export", copied, "--set", "export.int8=true")
    run, found = Path(body["run"]), body["int8"]
    cells = {(cell["network"], cell["numbers"]): cell for cell in found["cells"]}
    assert (code, len(cells)) == (0, 4)
    first = cells.pop(("unpruned", "float32"))
    assert first["comparison"] is None
    for cell in cells.values():
        assert cell["comparison"]["num_examples"] == 88
        assert len(cell["comparison"]["latency"]) == 2
    fp32 = json.loads((run / "rounds/01/comparison.json").read_text())["score"]
    assert cells["pruned", "float32"]["comparison"]["score"] == fp32
    assert [gate["name"] for gate in found["gates"]["gates"]] == ["max_drop"]
    assert found["calibration_examples"] == 12
    assert found["chosen"] == "onnxruntime"
    assert cells["pruned", "int8"]["held_out"]["num_examples"] == found_examples(run)
    there = (run / "export" / "pruned-int8.onnx").is_file()
    assert there == bool(found["file"]) == (not found["reason"])

    code, body = call(capsys, "compare", run, "--set", "gates.max_params_ratio=0.01")
    code, body = call(capsys, "export", body["run"])
    assert "parameters" in body["int8"]["reason"]
    assert not (Path(body["run"]) / "export" / "pruned-int8.onnx").exists()


def test_a_package_holds_int8_with_its_own_answers_and_monitoring_knows_it(
    project: Path, copied: Path, python: list[str], tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(int8, "verdict", lambda *_: "")  # whatever the clock says here
    words = ("--package", "--set", "export.int8=true")
    code, body = call(capsys, "export", copied, *words)
    run, package = Path(body["run"]), Path(body["package"]["folder"])
    assert (code, body["int8"]["file"]) == (0, "pruned-int8.onnx")
    which = ("--model", "model-int8.onnx")
    found = asked(python, package, "--self-test", *which)
    assert (found.returncode, found.stdout) == (0, "ok: 37 hashes, 10 answers\n")
    log = tmp_path / "preds.jsonl"
    assert asked(python, package, project / "test", "--log", log, *which).returncode == 0
    assert {entry.model for entry in read_log(log).predictions} == {body["int8"]["sha256"]}
    code, body = call(capsys, "monitor", run, "--log", log, "--set", "monitor.window=88")
    assert body["num_examples"] == 88
    assert call(capsys, "report", run)[0] == 0
    page = (run / "report" / "report.html").read_text("utf-8")
    assert "8-bit integers, before and after the cut" in page
    assert "pruned-int8.onnx passes the gates and is faster" in page


def found_examples(run: Path) -> int:
    """Return how many validation examples a run has."""
    return int(json.loads((run / "data.json").read_text())["sets"]["validation"]["num_examples"])


@pytest.fixture(scope="module")
def in_openvino(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A run exported as IR too, int8 by both runtimes; its package for OpenVINO, and a Python."""
    if not all(map(find_spec, ("openvino", "nncf"))):  # importing them here would tell of it
        pytest.skip("OpenVINO IR and int8 by NNCF need the extra openvino")
    folder = tmp_path_factory.mktemp("openvino")
    shutil.copytree(project / "runs", folder / "runs", copy_function=shutil.copy2)
    pairs = [word for key in ("openvino", "int8") for word in ("--set", f"export.{key}=true")]
    words = ["export", str(folder / "runs" / "kinds"), "--package", "--json", *pairs]
    out = folder / "out.json"
    with pytest.MonkeyPatch.context() as patch, out.open("w") as stream, redirect_stdout(stream):
        patch.setattr(int8, "verdict", lambda *_: "")  # whatever the clock says here
        patch.setattr(int8, "chosen", lambda *_: "openvino")
        assert cli.run(words) == 0
    body = json.loads(out.read_text())
    package = Path(body["package"]["folder"])
    shutil.copy(package / "requirements-openvino.txt", folder / "requirements.txt")
    return package, body, edge_project.python_without(folder)


def test_an_ir_answers_as_the_product_does_where_openvino_numpy_and_pillow_are(
    project: Path, in_openvino: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    package, body, python = in_openvino
    exported = {each["format"]: each for each in body["export"]["files"]}
    assert exported["openvino"]["agreement"] == 1.0
    assert {pair["baseline"]["runtime"] for pair in body["export"]["onnx_latency"]} == {
        "onnxruntime", "openvino",
    }  # fmt: skip
    which = ("--model", "model.xml")
    found = asked(python, package, "--self-test", *which)
    assert (found.returncode, found.stdout.startswith("ok: ")) == (0, True), found.stderr
    said = answers(asked(python, package, project / "test", *which))
    test = Resources(config_of(RunFolder.open(project / "runs" / "kinds"))).split("test")
    kept = np.load(project / "runs" / "kinds" / "rounds" / "01" / "predictions.npz")
    names = [edge_project.CLASSES[each] for each in kept["pruned_predictions"]]
    assert [said[name]["prediction"] for name in test.names] == names
    apart = [said[name]["confidence"] for name in test.names] - kept["pruned_confidence"]
    assert np.abs(apart).max() <= WITHIN
    times = tmp_path / "times.json"
    assert asked(python, package, "--time", times, "--repeats", "3").returncode == 0
    rows = {row["file"]: row["runtime"] for row in json.loads(times.read_text())["times"]}
    assert {"model.xml": "openvino", "model-int8.xml": "openvino"}.items() <= rows.items()


def test_int8_by_nncf_stands_beside_that_of_onnxruntime_and_is_packaged(
    in_openvino: tuple[Path, Any, Any],
) -> None:
    package, body, python = in_openvino
    found = body["int8"]
    assert len(found["cells"]) == 8
    assert {cell["runtime"] for cell in found["cells"]} == {"onnxruntime", "openvino"}
    made = [c for c in found["cells"] if (c["numbers"], c["runtime"]) == ("int8", "openvino")]
    assert all(cell["held_out"]["num_examples"] > 0 for cell in made)
    assert all(cell["in_float"] == [] or cell["method"] == "accuracy-aware" for cell in made)
    assert (found["file"], found["failed"]) == ("pruned-int8.xml", {})
    parts = [package / f"model-int8.{ending}" for ending in ("xml", "bin")]
    joined = hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()
    assert joined == found["sha256"]
    which = ("--model", "model-int8.xml")
    assert asked(python, package, "--self-test", *which).stdout.startswith("ok: ")
    parts[1].write_bytes(parts[1].read_bytes() + b"\0")
    broken = asked(python, package, "--self-test", *which)
    assert (broken.returncode, "not the file that model.json names" in broken.stderr) == (1, True)


def test_alternatives_are_measured_on_validation_data_and_the_page_names_what_to_take(
    project: Path, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "alternatives.resolutions": [0.75],
        "alternatives.siblings": ["py:model.py:make", "py:model.py:nothing"],
    }
    pairs = [w for k, v in settings.items() for w in ("--set", f"{k}={json.dumps(v)}")]
    code, body = call(capsys, "alternatives", copied, *pairs)
    run, found = Path(body["run"]), body["alternatives"]
    assert (code, found["data"], found["num_examples"]) == (0, "validation", found_examples(run))
    kinds = [(each["kind"], each["numbers"], each["runtime"]) for each in found["tried"]]
    assert kinds[0] == ("unpruned", "float32", "onnxruntime")
    for network in ("unpruned", "pruned"):
        assert {(network, "int8", "onnxruntime"), (network, "float32", "torch")} <= set(kinds)
    details = {each["kind"]: each["detail"] for each in found["tried"]}
    assert (details["resolution"], details["sibling"]) == ("12x14", "py:model.py:make")
    first, *others = found["tried"]
    assert all(len(each["latency"]) == 2 for each in others)
    assert first["latency"][0]["ratio"]["value"] == 1.0
    assert "nothing" in found["not_tried"]["sibling py:model.py:nothing"]
    assert found["not_tried"]["torch.compile"] == "alternatives.compile: false"
    assert len(found["front"]) >= 1
    assert call(capsys, "report", run)[0] == 0
    page = (run / "report" / "report.html").read_text("utf-8")
    assert "Is pruning the right tool?" in page
    readings = json.loads((run / "rounds/01/readings.json").read_text())
    assert readings == json.loads((copied / "rounds/01/readings.json").read_text())


def test_a_plan_follows_the_times_of_another_device_and_the_page_names_it(
    copied: Path, python: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, times = tmp_path / "candidates", tmp_path / "times.json"
    code, body = call(capsys, "plan", copied, "--candidates", folder)
    assert (code, body["networks"]) == (0, 2)
    assert call(capsys, "plan", copied, "--candidates", folder)[0] == 4  # not empty
    refused = asked(python, folder, folder)
    assert (refused.returncode, "nobody judged their answers" in refused.stderr) == (2, True)
    assert asked(python, folder, "--time", times, "--repeats", "3").returncode == 0
    measured = json.loads(times.read_text())
    assert [row["removed"] for row in measured["times"][:2]].count([]) >= 1
    words = ("--measured", times, "--remove", "block", "--set", "plan.runtime=onnxruntime")
    code, body = call(capsys, "plan", copied, *words)
    wanted = {
        (len(row["removed"]), str(row["batch_size"])): row["median_ms"]
        for row in measured["times"]
        if row["runtime"] == "onnxruntime"
    }
    assert code == 0, body["error"]
    assert wanted == {
        (prefix["num_removed"], size): ms
        for prefix in body["plan"]["prefixes"]
        for size, ms in prefix["latency_ms"].items()
    }
    device = measured["device"]["processor"]
    assert body["plan"]["timed_on"].startswith(f"{device}, onnxruntime ")
    kept = json.loads((Path(body["run"]) / "plan_latency.json").read_text())
    assert kept["timed_on"] == body["plan"]["timed_on"]
    assert (
        "timed_on" not in (Path(body["run"]) / "plan.json").read_text()
        or not (json.loads((Path(body["run"]) / "plan.json").read_text())["timed_on"])
    )
    times.write_text(times.read_text().replace('"repeats": 3', '"repeats": 4', 1))
    code, body = call(capsys, "plan", copied, *words)
    assert "is not what was measured" in body["error"]["message"]
    code, body = call(capsys, "plan", copied, "--measured", tmp_path / "none.json")
    assert (code, "predict.py --time writes it" in body["error"]["message"]) == (2, True)


def test_latency_can_be_that_of_onnxruntime(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--latency", "1.0", "--set", "plan.runtime=onnxruntime")
    code, body = call(capsys, "plan", copied, *words)
    assert code == 0
    assert "onnxruntime" in body["plan"]["timed_on"]
    assert body["plan"]["prefixes"][0]["latency_ms"]["1"] > 0


def test_nothing_is_sent_when_openvino_is_imported(in_openvino: tuple[Path, Any, Any]) -> None:
    import nncf.telemetry

    assert sys.modules["openvino_telemetry"] is None
    assert "Mock" in type(nncf.telemetry.telemetry).__name__


@pytest.mark.parametrize(
    ("losses", "times", "best"),
    [
        ({"onnxruntime": 0.005, "openvino": 0.005}, {"onnxruntime": 2.0, "openvino": 1.0},
         "openvino"),
        ({"onnxruntime": 0.005, "openvino": 0.05}, {"onnxruntime": 2.0, "openvino": 1.0},
         "onnxruntime"),
        ({"onnxruntime": 0.04, "openvino": 0.03}, {"onnxruntime": 1.0, "openvino": 2.0},
         "openvino"),
    ],
)  # fmt: skip
def test_the_fastest_runtime_is_taken_of_those_that_keep_the_limit_else_the_truest(
    losses: dict[str, float], times: dict[str, float], best: str
) -> None:
    cells = [
        int8.Cell(
            network="pruned", numbers="int8", runtime=name, size_bytes=1,
            latency=(latency.summarize([times[name]] * 7, batch_size=1, device="cpu"),),
            held_out=Drop(value=loss, low=loss, high=loss, confidence=0.95, baseline=1.0,
                          pruned=1 - loss, num_examples=9),
        )
        for name, loss in losses.items()
    ]  # fmt: skip
    assert int8.chosen(cells, 0.01) == best


def test_int8_of_a_network_without_an_onnx_file_says_so(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--set", "export.int8=true", "--set", "export.onnx=false")
    code, body = call(capsys, "export", copied, *words)
    assert body["int8"]["cells"] == []
    assert "no ONNX file to quantize (export.onnx: false)" in body["int8"]["reason"]
    assert code == 0
