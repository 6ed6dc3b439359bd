"""Image folders: every entry is read, refused, or counted and named."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from class_project import config, make_project
from srinit import cli, sources
from srinit.class_names import in_order, natural_key
from srinit.errors import DataError, UnsafeError
from srinit.pixels.images import FORMATS, SUFFIXES

NFD, NFC = (unicodedata.normalize(form, "ダメ") for form in ("NFD", "NFC"))


def put(folder: Path, *names: str, seed: int = 0) -> Path:
    """Write different small images."""
    rng = np.random.default_rng([seed, *folder.name.encode()])
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).save(folder / name)
    return folder


def load(folder: Path, **options: object) -> sources.DataSet:
    return sources.load_data(f"folder:{folder}", **options)  # type: ignore[arg-type]


def notes(data: sources.DataSet) -> str:
    return "\n".join(data.pool.notes)


class TestLinks:
    def test_a_linked_folder_is_read_as_torchvision_reads_it(self, tmp_path: Path) -> None:
        torchvision = pytest.importorskip("torchvision.datasets")
        put(tmp_path / "ng", "1.png")
        put(tmp_path / "ok", "1.png", "2.png")
        put(tmp_path / ".pool" / "deep", "3.png", "4.png", "5.png")
        (tmp_path / "ok" / "2024-05").symlink_to("../.pool")
        data = load(tmp_path)
        assert data.class_counts == {"ng": 1, "ok": 5}
        theirs = [
            path
            for name in ("ng", "ok")
            for path, _ in torchvision.folder.make_dataset(
                tmp_path, {name: 0}, extensions=(".png",)
            )
        ]
        assert sorted(str(tmp_path / name) for name in data.names) == sorted(theirs)
        assert "1 hidden files or folders were left out (.pool)" in notes(data)

    def test_images_that_links_lead_to_twice_are_told(self, tmp_path: Path) -> None:
        put(tmp_path / "ok" / "pool", "1.png", "2.png")
        (tmp_path / "ok" / "again").symlink_to("pool")
        data = load(tmp_path)
        assert len(data) == 4
        assert "2 images are read more than once, through links (ok/again)" in notes(data)

    def test_a_link_to_a_folder_that_it_lies_in_is_not_followed(self, tmp_path: Path) -> None:
        put(tmp_path / "ok", "1.png")
        (tmp_path / "ok" / "round").symlink_to("../ok")
        put(tmp_path / "ok" / "in", "2.png")
        (tmp_path / "ok" / "in" / "up").symlink_to(tmp_path)
        data = load(tmp_path)
        assert data.names == ("ok/1.png", "ok/in/2.png")
        assert "2 links to a folder that they lie in were not followed" in notes(data)

    def test_links_out_of_the_folder_and_to_nowhere_are_refused(self, tmp_path: Path) -> None:
        put(tmp_path / "data" / "ok", "1.png")
        put(tmp_path / "elsewhere", "2.png")
        link = tmp_path / "data" / "ok" / "2024-05"
        link.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UnsafeError, match=r"1 entries lead out of its folder.*\n  ok/2024-05"):
            load(tmp_path / "data")
        link.unlink()
        link.symlink_to("../gone")
        with pytest.raises(DataError, match=r"1 links lead nowhere.*\n  ok/2024-05 -> ../gone"):
            load(tmp_path / "data")
        link.unlink()
        (tmp_path / "data" / "ng").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(UnsafeError, match="\n  ng"):
            sources.load_data(f"images:{tmp_path / 'data'}")

    def test_a_folder_that_may_not_be_read_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(tmp_path / "ok" / "closed", "1.png")
        put(tmp_path / "ok", "2.png")
        real = os.listdir

        def refused(place: Path) -> list[str]:
            if Path(place).name == "closed":
                raise PermissionError(13, "Permission denied")
            return real(place)

        monkeypatch.setattr(os, "listdir", refused)
        with pytest.raises(DataError, match=r"1 folders cannot be read.*\n  ok/closed: Perm"):
            load(tmp_path)


class TestEntries:
    def test_everything_that_is_not_read_is_counted_and_named(self, tmp_path: Path) -> None:
        put(tmp_path / "ok", "1.png", "._2.png")
        put(tmp_path / "ok" / "@eaDir" / "1.png", "SYNOPHOTO_THUMB_M.png")
        put(tmp_path / "ok" / ".ipynb_checkpoints", "1-checkpoint.png")
        for name in ("@eaDir", "#recycle", "__MACOSX", "lost+found", "$RECYCLE.BIN"):
            put(tmp_path / name, "1.png")
        put(tmp_path / "System Volume Information")
        for name in ("ok/Thumbs.db", "ok/readme.txt", "ok/a.heic", "classes.txt", ".DS_Store"):
            (tmp_path / name).write_text("x")
        put(tmp_path, "stray.png")
        data = load(tmp_path)
        assert data.class_counts == {"ok": 1}
        told = notes(data)
        assert "2 files that are no images were left out (1 .heic, 1 .txt; the first is" in told
        assert "2 files lie beside the class folders, in no class, and were left out" in told
        assert "3 hidden files or folders were left out (.DS_Store, ok/." in told
        assert "8 files or folders of file servers, systems or tools were left out" in told

    def test_a_class_may_be_called_like_litter_if_it_is_listed(self, tmp_path: Path) -> None:
        put(tmp_path / "lost+found", "1.png")
        put(tmp_path / "ok", "2.png")
        data = load(tmp_path, classes=["ok", "lost+found"])
        assert data.class_counts == {"ok": 1, "lost+found": 1}

    def test_an_empty_file_is_refused_as_such(self, tmp_path: Path) -> None:
        put(tmp_path / "ok", "1.png")
        (tmp_path / "ok" / "2.png").touch()
        with pytest.raises(DataError, match=r"ok/2\.png: the file is empty"):
            load(tmp_path).check_readable()

    def test_inspect_tells_what_was_left_out_and_the_run_keeps_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        project = make_project(tmp_path, 8)
        (project / "data" / "dim" / "notes.txt").write_text("x")
        assert cli.run(["inspect", "-c", str(config(project)), "--json"]) == 0
        captured = capsys.readouterr()
        body = json.loads(captured.out)
        kept = json.loads((Path(body["run"]) / "data.json").read_text("utf-8"))
        told = "1 files that are no images were left out (1 .txt; the first is dim/notes.txt)"
        for text in (captured.err, str(body["data"]["notes"]), str(kept["notes"])):
            assert told in text
            assert "same share of every class" in text
        assert kept["sets"]["calibration"]["classes"] == {
            "dark": 4, "dim": 4, "light": 4, "white": 4,
        }  # fmt: skip


class TestFormats:
    def test_every_ending_of_every_format_is_read_in_any_case(self, tmp_path: Path) -> None:
        kinds = {suffix: kind for kind, suffixes in FORMATS.items() for suffix in suffixes}
        (tmp_path / "ok").mkdir()
        for number, (suffix, kind) in enumerate(kinds.items()):
            written = suffix.upper() if number % 2 else suffix
            image = Image.new("RGB" if kind != "PPM" else "L", (4, 3), number)
            image.save(tmp_path / "ok" / f"{number}{written}", kind)
        data = load(tmp_path)
        data.check_readable()
        assert len(data) == len(SUFFIXES) == len(kinds)

    def test_the_endings_are_those_that_pillow_knows_for_the_formats(self) -> None:
        known = {s for s, kind in Image.registered_extensions().items() if kind in FORMATS}
        assert known - SUFFIXES == {".pfm"}  # floating-point
        assert known >= SUFFIXES


class TestClassNames:
    def test_unicode_forms_of_a_name_are_one_class_everywhere(self, tmp_path: Path) -> None:
        put(tmp_path / NFD, "1.png")
        put(tmp_path / "ok", "2.png")
        (tmp_path / "a.csv").write_text(f"path,label\n{NFD}/1.png,{NFC}\nok/2.png,ok\n", "utf-8")
        for classes in ([NFC, "ok"], [NFD, "ok"]):
            assert load(tmp_path, classes=classes).class_counts == {NFC: 1, "ok": 1}
            table = sources.load_data(f"csv:{tmp_path}/a.csv", classes=classes)
            assert table.class_counts == {NFC: 1, "ok": 1}

    @pytest.mark.parametrize(
        ("one", "other", "why"),
        [
            (NFD, NFC, r"Unicode form.*"),
            ("OK", "OK ", "white space"),
            ("OK", "ok", "case"),
            ("第1類", "第１類", r"\\uff11.* width"),
            ("ok", "ok\u200b", r"\\u200b.*invisible"),
        ],
    )
    def test_two_folders_that_look_alike_are_refused_and_spelled_out(
        self, one: str, other: str, why: str, tmp_path: Path
    ) -> None:
        put(tmp_path / one, "1.png")
        put(tmp_path / other, "2.png")
        with pytest.raises(DataError, match=why):
            load(tmp_path)

    def test_labels_that_look_alike_are_refused_unless_both_are_listed(
        self, tmp_path: Path
    ) -> None:
        put(tmp_path, "1.png", "2.png")
        (tmp_path / "a.csv").write_text("path,label\n1.png,OK\n2.png,OK \n")
        with pytest.raises(DataError, match="'OK' and 'OK ' differ only in white space"):
            sources.load_data(f"csv:{tmp_path}/a.csv")
        with pytest.raises(DataError, match="'OK' and 'OK ' differ only in white space"):
            sources.load_data(f"csv:{tmp_path}/a.csv", classes=["OK"])
        (tmp_path / "a.csv").write_text("path,label\n1.png,OK \n2.png,ng\n")
        with pytest.raises(DataError, match=r"did you mean 'OK'\? It differs in white space"):
            sources.load_data(f"csv:{tmp_path}/a.csv", classes=["ng", "OK"])
        put(tmp_path / "letters" / "a", "1.png")
        put(tmp_path / "letters" / "A", "2.png")
        assert load(tmp_path / "letters", classes=["a", "A"]).class_counts == {"a": 1, "A": 1}

    def test_a_folder_that_only_looks_like_a_class_is_spelled_out(self, tmp_path: Path) -> None:
        put(tmp_path / "第１類", "1.png")
        with pytest.raises(DataError, match=r"do not match.*\\uff11.*differ in width"):
            load(tmp_path, classes=["第1類"])

    def test_natural_order_is_that_of_timm_also_for_full_width_digits(self) -> None:
        timm = pytest.importorskip("timm.utils.misc")
        names = ["第１０類", "第２類", "第１類", "p10", "p2", "P1"]
        assert sorted(names, key=natural_key) == sorted(names, key=timm.natural_key)
        with pytest.raises(DataError, match="the order of the 3 classes is not clear"):
            in_order(names[:3], None, "parts")
        assert in_order(names[:3], "natural", "parts") == ("第１類", "第２類", "第１０類")

    def test_an_order_that_hangs_on_the_writing_of_a_name_must_be_said(self) -> None:
        for names in (["été", "zone"], ["e\u0301te\u0301", "zone"], ["1", "01"]):
            with pytest.raises(DataError, match="the order of the 2 classes is not clear"):
                in_order(names, None, "parts")
        with pytest.raises(DataError, match="some are the same number"):
            in_order(["1", "01"], "natural", "parts")

    def test_names_of_indices_are_different(self, tmp_path: Path) -> None:
        images, labels = np.zeros((2, 2, 2), dtype=np.uint8), np.array([0, 1])
        for names, why in ((["ok", "ok"], "stands for two indices"), (["ok", "OK"], "in case")):
            np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=names)
            with pytest.raises(DataError, match=why):
                sources.load_data(f"npz:{tmp_path}/a.npz")


class TestOtherSources:
    def test_arrays_and_files_that_are_not_read_are_named(self, tmp_path: Path) -> None:
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        images = np.zeros((2, 2, 2), dtype=np.uint8)
        np.savez(tmp_path / "a.npz", images=images, labels=np.array([0, 1]), masks=images)
        data = sources.load_data(f"npz:{tmp_path}/a.npz")
        assert "arrays left out: masks" in notes(data)
        put(tmp_path, "1.png")
        cells = [(tmp_path / "1.png").read_bytes()]
        (tmp_path / "p" / "old").mkdir(parents=True)
        parquet.write_table(
            pa.table({"image": cells, "label": [0]}), tmp_path / "p" / "train.parquet"
        )
        (tmp_path / "p" / "._train.parquet").write_bytes(b"x")
        data = sources.load_data(f"parquet:{tmp_path}/p")
        assert len(data) == 1
        assert "2 other files or folders were left out (._train.parquet, old)" in notes(data)
