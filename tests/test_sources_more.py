"""Images of other kinds, class order, shared data sets, weights that are wrapped or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from srinit import networks, sources
from srinit.config.sections import DataSection, PreprocessSection
from srinit.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    IntegrityError,
    UnsafeError,
)
from srinit.sources import Preprocess, preprocess_from

GRAY = Preprocess(channels=1, mean=(0.5,), std=(0.5,))


def make_images(folder: Path, classes: dict[str, int], seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


class TestImages:
    def test_samples_of_12_bits_are_scaled_and_never_clipped(self, tmp_path: Path) -> None:
        (tmp_path / "ok").mkdir()
        deep = np.array([[0, 2048], [4095, 16]], dtype=np.uint16)
        Image.fromarray(deep).save(tmp_path / "ok" / "a.png")
        with pytest.raises(DataError, match=r"write data\.preprocess\.bits"):
            sources.load_data(f"folder:{tmp_path}", preprocess=GRAY).check_readable()
        twelve = Preprocess(channels=1, mean=(0.0,), std=(1.0,), bits=12)
        inputs, _ = sources.load_data(f"folder:{tmp_path}", preprocess=twelve)[0]
        assert (inputs * 255).round().flatten().tolist() == [0, 128, 255, 1]
        ten = Preprocess(channels=1, mean=(0.0,), std=(1.0,), bits=10)
        with pytest.raises(DataError, match=r"more than data\.preprocess\.bits: 10"):
            sources.load_data(f"folder:{tmp_path}", preprocess=ten).check_readable()

    def test_formats_that_run_programs_are_not_opened(self, tmp_path: Path) -> None:
        (tmp_path / "ok").mkdir()
        (tmp_path / "ok" / "a.png").write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
        )
        with pytest.raises(DataError, match="not an image of a known format"):
            sources.load_data(f"folder:{tmp_path}").check_readable()

    def test_a_short_side_and_a_crop_are_those_of_torchvision(self) -> None:
        transforms = pytest.importorskip("torchvision.transforms")
        pixels = np.random.default_rng(0).integers(0, 256, (37, 61, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        theirs = transforms.Compose([transforms.Resize(24), transforms.CenterCrop(20)])(image)
        ours = Preprocess(size=24, crop=20).pixels(image)
        assert np.array_equal(ours, np.asarray(theirs).transpose(2, 0, 1))

    def test_images_of_different_size_are_named(self, tmp_path: Path) -> None:
        make_images(tmp_path, {"ok": 2})
        Image.new("RGB", (9, 9)).save(tmp_path / "ok" / "2.png")
        with pytest.raises(
            DataError, match=r"images differ in size: .*Write data\.preprocess"
        ) as e:
            sources.load_data(f"folder:{tmp_path}").check_readable()
        assert "2.png is 9x9" in str(e.value)

    def test_an_image_smaller_than_the_crop_is_unreadable(self, tmp_path: Path) -> None:
        make_images(tmp_path, {"ok": 1})
        with pytest.raises(DataError, match="smaller than the crop of 7x7"):
            sources.load_data(f"folder:{tmp_path}", preprocess=Preprocess(crop=7)).check_readable()

    def test_serving_without_room_for_a_cache_gives_the_same(self, tmp_path: Path) -> None:
        make_images(tmp_path, {"ng": 5, "ok": 6})
        cached = sources.load_data(f"folder:{tmp_path}")
        cached.check_readable()
        small = sources.load_data(f"folder:{tmp_path}")
        small.pool._cache_bytes = 400  # room for two images
        for one, other in zip(
            cached.batches(4, shuffle_seed=1), small.batches(4, shuffle_seed=1), strict=True
        ):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])
        assert not small.pool.is_cached(small.indices)

    def test_thumbnails_are_small_and_rgb(self, tmp_path: Path) -> None:
        make_images(tmp_path, {"ok": 1})
        thumbnail = sources.load_data(f"folder:{tmp_path}").thumbnail(0, 4)
        assert (thumbnail.mode, thumbnail.size) == ("RGB", (4, 3))

    def test_the_config_section_and_the_record_have_the_same_fields(self) -> None:
        assert preprocess_from(PreprocessSection()) == Preprocess()
        again = preprocess_from(json.loads(PreprocessSection(size=(4, 5)).model_dump_json()))
        assert again == Preprocess(size=(4, 5))
        with pytest.raises(ConfigError, match="resize: "):
            preprocess_from({"resize": 4})
        with pytest.raises(ConfigError, match="one value per channel"):
            preprocess_from({"channels": 1})


class TestClasses:
    def test_an_unclear_class_order_must_be_said(self, tmp_path: Path) -> None:
        make_images(tmp_path, {"p2": 1, "p10": 1, "p1": 1})
        with pytest.raises(DataError, match="the order of the 3 classes is not clear"):
            sources.load_data(f"folder:{tmp_path}")
        natural = sources.load_data(f"folder:{tmp_path}", classes="natural")
        assert natural.class_names == ("p1", "p2", "p10")
        plain = sources.load_data(f"folder:{tmp_path}", classes="alphabetical")
        assert plain.class_names == ("p1", "p10", "p2")

    def test_files_that_are_no_images_are_noted_and_hidden_ones_skipped(
        self, tmp_path: Path
    ) -> None:
        make_images(tmp_path, {"ok": 2})
        (tmp_path / "ok" / "readme.txt").write_text("x")
        (tmp_path / "ok" / "._0.png").write_bytes(b"resource fork")
        data = sources.load_data(f"folder:{tmp_path}")
        assert len(data) == 2
        assert sources.describe({"test": data}) == [
            "test: 2 examples (ok 2)",
            f"{tmp_path}: 1 files that are no images were left out (1 .txt; "
            "the first is ok/readme.txt)",
            f"{tmp_path}: 1 hidden files or folders were left out (ok/._0.png)",
        ]

    def test_unlabeled_images_have_no_class(self, tmp_path: Path) -> None:
        make_images(tmp_path, {"a": 2, "b": 1})
        data = sources.load_data(f"images:{tmp_path}")
        assert data.targets.tolist() == [-1, -1, -1]
        assert data.class_counts == {}


class TestShared:
    def test_training_data_may_serve_as_calibration_if_that_is_said(self, tmp_path: Path) -> None:
        make_images(tmp_path / "train", {"ng": 8, "ok": 8})
        make_images(tmp_path / "test", {"ng": 2, "ok": 2}, seed=1)
        both = {"train": "folder:train", "test": "folder:test"}
        found = sources.load_splits(
            DataSection(**both, calibration="train", limit={"calibration": 6}),
            root=tmp_path,
            seed=0,
        )
        assert len(found["calibration"]) == 6
        assert set(found["calibration"].ids) <= set(found["train"].ids)
        same = {**both, "calibration": "folder:train"}
        with pytest.raises(DataError, match="16 are both in train and in calibration"):
            sources.load_splits(DataSection(**same), root=tmp_path, seed=0)
        allowed = DataSection(**same, allow_train_calibration_overlap=True)
        assert len(sources.load_splits(allowed, root=tmp_path, seed=0)) == 3

    def test_unreadable_images_are_told_before_anything_runs(self, tmp_path: Path) -> None:
        make_images(tmp_path / "d", {"ng": 8, "ok": 8})
        (tmp_path / "d" / "ok" / "3.png").write_bytes(b"broken")
        with pytest.raises(DataError, match=r"1 unreadable image; .*\n  ok/3\.png"):
            sources.load_splits(DataSection(source="folder:d"), root=tmp_path, seed=0)

    def test_a_defect_class_that_does_not_exist_is_named(self, tmp_path: Path) -> None:
        make_images(tmp_path / "d", {"ng": 9, "ok": 9})
        settings = DataSection(source="folder:d", defect_class="NG")
        with pytest.raises(ConfigError, match=r"is not one of the classes .*did you mean 'ng'"):
            sources.load_splits(settings, root=tmp_path, seed=0)

    def test_equal_images_stay_together_and_conflicting_labels_are_told(
        self, tmp_path: Path
    ) -> None:
        make_images(tmp_path, {"ng": 20, "ok": 20})
        for number in range(20):
            copy = (tmp_path / "ng" / f"{number}.png").read_bytes()
            (tmp_path / "ok" / f"copy{number}.png").write_bytes(copy)
        data = sources.load_data(f"folder:{tmp_path}")
        parts = sources.split(data, {"calibration": 0.5, "test": 0.5}, seed=3)
        assert not set(parts["calibration"].ids) & set(parts["test"].ids)
        lines = sources.describe({"all": data})
        assert any("20 equal images have different labels" in line for line in lines)


class TestPython:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "helper.py").write_text("SIZE = 4\n")
        (tmp_path / "data.py").write_text(
            "import numpy as np, torch\nfrom PIL import Image\nfrom helper import SIZE\n"
            "class Parts:\n"
            "    classes = ['ng', 'ok']\n"
            "    def __len__(self): return 3\n"
            "    def __getitem__(self, i):\n"
            "        return Image.new('RGB', (SIZE, SIZE), (i, i, i)), i % 2\n"
            "def parts(): return Parts()\n"
            "def tensors(): return [(torch.full((2,), float(i)), i % 2) for i in range(3)]\n"
            "def arrays(): return np.zeros((3, 4, 4), np.uint8), [0, 1, 0], ['ng', 'ok']\n"
            "def fails(): raise OSError('no camera')\n"
            "def number(): return 7\n"
            "def pairs(): return [1, 2]\n"
        )
        return tmp_path

    @pytest.mark.parametrize("name", ["parts", "arrays"])
    def test_functions_give_images(self, root: Path, name: str) -> None:
        data = sources.load_data(f"py:data.py:{name}", root=root)
        inputs, target = next(iter(data.batches(2)))
        assert inputs.shape == (2, 3, 4, 4)
        assert target.tolist() == [0, 1]
        assert data.class_names == ("ng", "ok")

    def test_functions_give_tensors(self, root: Path) -> None:
        data = sources.load_data("py:data.py:tensors", root=root)
        assert data[2][0].tolist() == [2.0, 2.0]
        assert len(set(data.ids)) == 3

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("fails", "OSError: no camera"),
            ("number", "should return .* found int"),
            ("pairs", "should return"),
        ],
    )
    def test_what_a_function_does_wrong_is_named(self, root: Path, name: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            sources.load_data(f"py:data.py:{name}", root=root)


class TestHuggingFace:
    def test_a_saved_data_set_and_a_parquet_copy_give_the_same(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        make_images(tmp_path / "raw", {"b": 2, "a": 2})
        paths = sorted((tmp_path / "raw").rglob("*.png"))
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["b", "a"])}
        )
        cells = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
        labels = [["b", "a"].index(path.parent.name) for path in paths]
        made = datasets.Dataset.from_dict({"image": cells, "label": labels}, features=features)
        made.save_to_disk(str(tmp_path / "saved"))
        (tmp_path / "copy" / "data").mkdir(parents=True)
        made.to_parquet(str(tmp_path / "copy" / "data" / "test-00000-of-00001.parquet"))
        saved = sources.load_data("hf:saved", root=tmp_path)
        copied = sources.load_data("hf:copy:test", root=tmp_path)
        assert saved.class_names == copied.class_names == ("b", "a")
        assert saved.data_hash == copied.data_hash
        assert saved.targets.tolist() == labels
        other = sources.load_data("hf:saved", root=tmp_path, classes=["a", "b"])
        assert other.targets.tolist() == [1 - label for label in labels]


class TestParquet:
    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"image": [b"x"], "kind": [0]}, "should have an image column"),
            ({"image": ["a.png"], "label": [0]}, "row 0 holds no encoded image"),
            ({"image": [b"x", b"y"], "label": [0, None]}, "1 rows have no label"),
            ({"image": [b"x"], "label": [0.5]}, "should be integers or names"),
        ],
    )
    def test_wrong_columns_are_named(
        self, tmp_path: Path, columns: dict[str, Any], message: str
    ) -> None:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        with pytest.raises(DataError, match=message):
            sources.load_data("parquet:a.parquet", root=tmp_path)

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing PAR1")
        with pytest.raises(DataError, match=r"a\.parquet is damaged or no parquet"):
            sources.load_data("parquet:a.parquet", root=tmp_path)


class TestWeights:
    def test_what_was_unwrapped_is_said(self, tmp_path: Path) -> None:
        state = {"_orig_mod.weight": torch.zeros(2, 2), "_orig_mod.bias": torch.zeros(2)}
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pt")  # noqa: TID251
        notes: list[str] = []
        found = networks.read_weights(tmp_path / "w.pt", on_note=notes.append)
        assert set(found) == {"weight", "bias"}
        assert "under 'state_dict' are used, not ['epoch']" in notes[0]
        assert "the prefix '_orig_mod.' of torch.compile was taken off" in notes[1]

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
    def test_a_flipped_bit_is_found(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        if name == "w.pt":
            torch.save({"a": torch.ones(1000)}, path)  # noqa: TID251
        else:
            save_file({"a": torch.ones(1000)}, path)
        from srinit.store import sha256_file

        good = sha256_file(path)
        content = bytearray(path.read_bytes())
        content[1500] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(IntegrityError, match=f"{name} is not the file that was named"):
            networks.read_weights(path, sha256=good)
        if name == "w.pt":  # archives carry checksums of their own
            with pytest.raises(CheckpointError, match=r"the checksum of its part .* is wrong"):
                networks.read_weights(path)

    def test_torchscript_is_refused(self, tmp_path: Path) -> None:
        import zipfile

        with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
            archive.writestr("w/data.pkl", b"")
            archive.writestr("w/constants.pkl", b"")
            archive.writestr("w/code/m.py", b"")
        with pytest.raises(UnsafeError, match="is a TorchScript program"):
            networks.read_weights(tmp_path / "w.pt")

    def test_tied_tensors_may_be_stored_once(self) -> None:
        class Tied(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
                self.b.weight = self.a.weight

        model = Tied()
        networks.load_weights(model, {"a.weight": torch.eye(2)}, where="w")
        assert torch.equal(model.b.weight, torch.eye(2))

    def test_an_inner_model_is_recognized(self) -> None:
        state = {"net.weight": torch.zeros(2, 2), "net.bias": torch.zeros(2)}
        with pytest.raises(CheckpointError, match=r"Without the 'net\.' .* it would fit"):
            networks.load_weights(nn.Linear(2, 2), state, where="w")

    def test_a_failed_load_leaves_the_model_as_it_was(self) -> None:
        model = nn.Linear(2, 2)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(CheckpointError, match="1 misshapen"):
            networks.load_weights(
                model, {"weight": torch.ones(2, 2), "bias": torch.ones(3)}, where="w"
            )
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    def test_other_types_and_nan_are_noted(self) -> None:
        notes: list[str] = []
        state = {"weight": torch.zeros(2, 2).half(), "bias": torch.full((2,), float("nan"))}
        networks.load_weights(nn.Linear(2, 2), state, where="w", on_note=notes.append)
        assert "1 tensors are converted (torch.float16 instead of torch.float32)" in notes[0]
        assert "1 tensors hold NaN or infinity, the first bias" in notes[1]
