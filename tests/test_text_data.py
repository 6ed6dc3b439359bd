"""Texts as data: documents, tokens of the model's tokenizer, rows, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import language_project
from language_project import documents, run, tokenizer
from srinit import cli
from srinit.config import DataSection
from srinit.errors import ConfigError, DataError
from srinit.sources import TextReading, describe, load_data, load_splits

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def words(tmp_path: Path) -> Path:
    tokenizer().save_pretrained(tmp_path / "words")
    return tmp_path / "words"


def reading(words: Path, **more: Any) -> TextReading:
    return TextReading(words, **{"length": 8, **more})


def test_paragraphs_become_padded_rows_with_masks(words: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat\n\n\n  \n\na dog ran\nunder the tree\n")
    data = load_data("text:a.txt", root=tmp_path, text=reading(words))
    ((inputs, targets),) = data.batches(8)
    ids = tokenizer()(["the cat sat", "a dog ran\nunder the tree"])["input_ids"]
    assert inputs["input_ids"][0, :3].tolist() == ids[0]
    assert inputs["input_ids"][1].tolist() == ids[1]
    assert inputs["attention_mask"].sum(1).tolist() == [3, 6]
    assert targets[0].tolist() == [*ids[0], -100, -100, -100]
    assert data.names == ("a.txt paragraph 1 row 0", "a.txt paragraph 3 row 1")
    assert "1 empty documents were left out" in describe({"all": data})[1]


def test_long_documents_take_several_rows_and_packed_ones_share(
    words: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("\n".join([" ".join(["cat"] * 17), "dog dog", "bird"]))
    given = reading(words, unit="line")
    data = load_data("text:a.txt", root=tmp_path, text=given)
    assert data.documents is not None
    assert data.documents.tolist() == [0, 0, 1]  # one token stands alone twice
    packed = load_data("text:a.txt", root=tmp_path, text=reading(words, unit="line", packed=True))
    ((inputs, targets),) = packed.batches(8)
    cat, dog, end = tokenizer().convert_tokens_to_ids(["cat", "dog", "</s>"])
    assert inputs["input_ids"].tolist() == [[cat] * 8, [cat] * 8]
    assert (dog, end) == (6, 2)
    assert torch.equal(inputs["input_ids"], targets)
    assert set(inputs) == {"input_ids"}
    assert packed.documents is None


def test_json_lines_parquet_and_messages(words: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    texts = ["the cat sat", "a big dog"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": t}) + "\n" for t in texts))
    pq.write_table(pa.table({"body": texts}), tmp_path / "a.parquet")
    found = [
        load_data(f"text:a.{kind}", root=tmp_path, text=reading(words, field="body"))
        for kind in ("jsonl", "parquet")
    ]
    assert found[0].ids == found[1].ids
    chat = [{"role": "user", "content": "a cat"}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"text": chat}))
    made = load_data("text:chat.jsonl", root=tmp_path, text=reading(words, chat_template=True))
    ((inputs, _),) = made.batches(1)
    assert tokenizer().decode(inputs["input_ids"][0]) == "< user > a cat"
    with pytest.raises(DataError, match=r"messages: write data.text.chat_template: true"):
        load_data("text:chat.jsonl", root=tmp_path, text=reading(words))
    with pytest.raises(DataError, match=r"line 1 has no field 'other' \(found \['body'\]\)"):
        load_data("text:a.jsonl", root=tmp_path, text=reading(words, field="other"))
    with pytest.raises(DataError, match=r"has no column 'other'"):
        load_data("text:a.parquet", root=tmp_path, text=reading(words, field="other"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "is not UTF-8"), (b"\n\n", "holds no document"), (b"cat", "nothing is pred")],
)
def test_what_cannot_be_read_is_said(
    content: bytes, message: str, words: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_data("text:a.txt", root=tmp_path, text=reading(words))


def test_a_text_needs_a_tokenizer_from_local_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat")
    with pytest.raises(ConfigError, match=r"write data.text.tokenizer: FOLDER"):
        load_data("text:a.txt", root=tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"has none that can be read"):
        load_data("text:a.txt", root=tmp_path, text=reading(tmp_path / "none"))


def splits(tmp_path: Path, words: Path, **given: Any) -> dict[str, Any]:
    section = DataSection(**given)
    return dict(load_splits(section, root=tmp_path, seed=0, tokenizer=words))


@pytest.mark.parametrize("packed", [True, False])
def test_documents_are_shared_out_as_wholes(packed: bool, words: Path, tmp_path: Path) -> None:
    texts = [f"{number} {text}" for number, text in enumerate(documents(40))]
    (tmp_path / "a.txt").write_text("\n\n".join([*texts, *texts[:5]]))
    found = splits(tmp_path, words, source="text:a.txt", text={"length": 8, "packed": packed})
    again = splits(tmp_path, words, source="text:a.txt", text={"length": 8, "packed": packed})
    assert {name: data.ids for name, data in found.items()} == {
        name: data.ids for name, data in again.items()
    }
    told = "\n".join(describe(found))
    assert told.count(" documents, ") == 4
    if not packed:
        rows = {name: set(data.ids) for name, data in found.items()}
        assert all(not rows[a] & rows[b] for a in rows for b in rows if a < b)


def test_a_document_in_two_sets_is_refused_by_content(words: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat\n\na dog ran")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "a dog ran"}))
    with pytest.raises(
        DataError, match=r"(?s)share examples.*1 are both in calibration and in test"
    ):
        splits(tmp_path, words, calibration="text:a.txt", test="text:b.jsonl")


def test_too_few_tokens_for_a_packed_row_are_refused(words: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the cat sat")
    with pytest.raises(DataError, match=r"less than one packed row of 99"):
        load_data("text:a.txt", root=tmp_path, text=reading(words, packed=True, length=99))


def test_a_run_on_text_shows_perplexity_and_judges_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = language_project.project(tmp_path)
    code, body = run(project, capsys, "gates.max_perplexity_ratio=1.0001",
                     "score=next_token_probability", "data.text.packed=true")  # fmt: skip
    assert code == 3, body
    change = body["perplexity"]
    assert 0 < change["ratio"]["low"] < change["ratio"]["value"] < change["ratio"]["high"]
    assert "rows, which may hold several documents" in change["method"]
    assert "perplexity: " in body["failed_gates"][0]
    page = (Path(body["run"]) / "report" / "report.html").read_text("utf-8")
    assert "times as much" in page
    files = np.load(next(Path(body["run"]).glob("rounds/*/predictions.npz")))
    mean = files["pruned_losses"].sum() / files["pruned_tokens"].sum()
    assert np.exp(mean) == pytest.approx(change["pruned"])


def test_a_run_on_documents_of_several_rows_is_judged_alike_when_it_is_promoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = language_project.project(tmp_path)
    code, body = run(project, capsys, "scan=off", "plan.params=null", "plan.units=1",
                     "plan.criterion=position")  # fmt: skip
    assert code == 0, body
    assert body["perplexity"]["method"].endswith("documents")
    code = cli.run(["promote", body["run"], "--json"])
    assert code == 0, capsys.readouterr().err


def test_a_gate_on_perplexity_needs_a_language_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = language_project.project(tmp_path)
    code, body = run(project, capsys, "gates.max_perplexity_ratio=2", "score=agreement")
    assert code == 2, body
    assert "max_perplexity_ratio needs the loss of next tokens" in body["error"]["message"]
