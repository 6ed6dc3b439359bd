"""Models, weights and data by name; what wrong ones get."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from srinit import networks, sources
from srinit.config.sections import DataSection
from srinit.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    ModelError,
    UnsafeError,
)
from srinit.sources import Augment, Preprocess

GRAY = Preprocess(channels=1, mean=(0.5,), std=(0.5,))

FACTORY = """
from torch import nn

def make(width=3):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

def broken():
    raise RuntimeError("no such depth")

def number():
    return 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five images each."""
    rng = np.random.default_rng(0)
    for name in ("ng", "ok"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in (1, 2, 3, 10, 20):
            pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"img{number}.png")
    return tmp_path / "data"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(FACTORY)
    return tmp_path


class TestModels:
    def test_a_python_factory_builds_with_its_arguments(self, code: Path) -> None:
        model = networks.load_model("py:model.py:make", args={"width": 5}, root=code)
        assert isinstance(model, nn.Sequential)
        assert model[0].out_features == 5
        assert not model.training

    def test_initial_weights_are_the_same_every_time(self) -> None:
        one, other = (networks.load_model("timm:test_resnet") for _ in range(2))
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))

    @pytest.mark.parametrize(
        ("source", "error", "message"),
        [
            ("resnet18", ConfigError, "is not one of timm:NAME"),
            ("py:nothing.py:make", ModelError, "there is no file"),
            ("py:model.py", ConfigError, "should look like py:path/file.py:function"),
            ("py:model.py:broken", ModelError, "no such depth"),
            ("py:model.py:number", ModelError, "returned int, not an nn.Module"),
            ("timm:test_resent", ModelError, "is not known; nearest: test_resnet"),
            ("torchvision:resnet19", ModelError, "nearest: resnet1"),
            ("timm:hf-hub:org/net", ConfigError, "would download"),
            ("hf:nothing", ModelError, "is neither a folder"),
            ("hf:./nothing", ModelError, "does not exist"),
            ("run:nothing", ConfigError, "run:RUN in a config"),
            ("py:model.py:mke", ModelError, "no function 'mke'; nearest: 'make'"),
        ],
    )
    def test_a_wrong_source_is_named(
        self, code: Path, source: str, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            networks.load_model(source, root=code)

    def test_downloads_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="would download"):
            networks.load_model("timm:test_resnet", args={"pretrained": True})
        with pytest.raises(ConfigError, match="would download"):
            networks.load_model("torchvision:resnet18", args={"weights": "DEFAULT"})


class TestWeights:
    def test_weights_load_strictly_from_either_format(self, code: Path) -> None:
        model = networks.load_model("py:model.py:make", root=code)
        state = {name: value + 1 for name, value in model.state_dict().items()}
        save_file(state, code / "w.safetensors")
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, code / "w.pt")  # noqa: TID251
        for name in ("w.safetensors", "w.pt"):
            loaded = networks.load_model("py:model.py:make", root=code, weights=name)
            assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())

    def test_weights_that_do_not_fit_name_the_first_of_each_kind(self, code: Path) -> None:
        model = networks.load_model("py:model.py:make", root=code)
        state = dict(model.state_dict())
        state["extra"] = torch.zeros(1)
        state["0.weight"] = torch.zeros(2, 2)
        del state["2.bias"]
        save_file(state, code / "w.safetensors")
        with pytest.raises(CheckpointError) as caught:
            networks.load_model("py:model.py:make", root=code, weights="w.safetensors")
        text = str(caught.value)
        assert "1 missing, the first 2.bias" in text
        assert "1 unexpected, the first extra" in text
        assert "0.weight ((2, 2) instead of (3, 4))" in text

    def test_a_pickled_module_is_refused_and_its_code_does_not_run(self, tmp_path: Path) -> None:
        marker = tmp_path / "ran"

        class Payload:
            def __reduce__(self) -> tuple[object, ...]:
                return Path.touch, (marker,)

        path = tmp_path / "model.pt"
        torch.save(Payload(), path)  # noqa: TID251
        with pytest.raises(UnsafeError, match="Convert it once"):
            networks.read_weights(path)
        path.write_bytes(pickle.dumps(Payload()))
        with pytest.raises((UnsafeError, CheckpointError)):
            networks.read_weights(path)
        torch.save(nn.Linear(2, 2), path)  # noqa: TID251
        with pytest.raises(UnsafeError, match="it is refused") as caught:
            networks.read_weights(path)
        assert caught.value.exit_code == 6
        assert not marker.exists()

    @pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
    def test_a_truncated_or_missing_file_is_named(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        with pytest.raises(CheckpointError, match="does not exist"):
            networks.read_weights(path)
        if name.endswith(".pt"):
            torch.save({"a": torch.zeros(1000)}, path)  # noqa: TID251
        else:
            save_file({"a": torch.zeros(1000)}, path)
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(CheckpointError, match=f"{name} is damaged"):
            networks.read_weights(path)


class TestData:
    def test_a_folder_has_one_class_a_subfolder_in_natural_order(self, folder: Path) -> None:
        data = sources.load_data(f"folder:{folder}")
        assert data.class_names == ("ng", "ok")
        assert data.names[:5] == tuple(f"ng/img{n}.png" for n in (1, 2, 3, 10, 20))
        assert data.targets.tolist() == [0] * 5 + [1] * 5

    def test_pixels_are_scaled_and_normalized(self, folder: Path) -> None:
        preprocess = Preprocess(size=(4, 4), channels=1, mean=(0.5,), std=(0.25,))
        data = sources.load_data(f"folder:{folder}", preprocess=preprocess)
        inputs, targets = next(iter(data.batches(3)))
        grey = data.image(0).convert("L").resize((4, 4), Image.Resampling.BILINEAR)
        expected = (np.asarray(grey) / 255 - 0.5) / 0.25
        assert inputs.shape == (3, 1, 4, 4)
        assert np.allclose(inputs[0, 0].numpy(), expected, atol=1e-6)
        assert targets.tolist() == [0, 0, 0]

    def test_batches_can_be_shuffled_resumed_and_read_again(self, folder: Path) -> None:
        data = sources.load_data(f"folder:{folder}")
        augment = Augment(crop_padding=2, flip=True)
        batches = data.batches(3, shuffle_seed=5, augment=augment)
        first, again = list(batches), list(batches)
        resumed = list(data.batches(3, shuffle_seed=5, augment=augment, start=2))
        assert len(first) == 4
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first[2:], resumed, strict=True))

    def test_all_unreadable_images_are_listed(self, folder: Path) -> None:
        (folder / "ng" / "img1.png").write_bytes(b"no image")
        truncated = (folder / "ok" / "img2.png").read_bytes()[:60]
        (folder / "ok" / "img2.png").write_bytes(truncated)
        data = sources.load_data(f"folder:{folder}")
        with pytest.raises(DataError, match="2 unreadable images") as caught:
            data.check_readable()
        assert "ng/img1.png" in str(caught.value)
        assert "ok/img2.png" in str(caught.value)

    def test_a_decompression_bomb_is_refused(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("srinit.pixels.images.MAX_PIXELS", 10)
        with pytest.raises(DataError, match="pixels are too many"):
            sources.load_data(f"folder:{folder}").check_readable()

    def test_a_link_out_of_the_folder_is_refused(self, folder: Path, tmp_path: Path) -> None:
        secret = tmp_path / "secret.png"
        Image.new("RGB", (4, 4)).save(secret)
        (folder / "ng" / "link.png").symlink_to(secret)
        with pytest.raises(UnsafeError, match="lead out of its folder") as caught:
            sources.load_data(f"folder:{folder}")
        assert "ng/link.png" in str(caught.value)
        assert caught.value.exit_code == 6

    def test_a_csv_file_lists_images(self, folder: Path) -> None:
        table = folder / "list.csv"
        table.write_text("path,label\nng/img1.png,bad\nok/img1.png,fine\n")
        data = sources.load_data(f"csv:{table}")
        assert data.class_names == ("bad", "fine")
        assert len(data) == 2

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file,label\na,b\n", "names the columns path and label"),
            ("path,label\n", "lists no image"),
            ("path,label\nnothing.png,bad\n", r"line 2: there is no file .nothing\.png"),
            ("path,label\nng/img1.png,\n", "1 rows have no label, the first is row 0"),
            ("path,label\n" + "x" * 5000 + ",bad\n", "line 2: there is no file"),
            ("path,label\n\x00,bad\n", "there is no file|is no CSV file"),
        ],
    )
    def test_a_wrong_csv_file_is_named(self, folder: Path, text: str, message: str) -> None:
        Image.new("RGB", (4, 4)).save(folder.parent / "secret.png")
        (folder / "list.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            sources.load_data(f"csv:{folder / 'list.csv'}")

    def test_paths_out_of_the_folder_of_a_csv_file_are_refused(self, folder: Path) -> None:
        secret = folder.parent / "secret.png"
        Image.new("RGB", (4, 4)).save(secret)
        rows = ["../secret.png,bad", f"{secret},bad", "ng/img1.png,bad"]
        (folder / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
        with pytest.raises(UnsafeError, match="2 entries lead out of its folder") as caught:
            sources.load_data(f"csv:{folder / 'list.csv'}")
        assert "line 2: ../secret.png" in str(caught.value)

    def test_a_csv_file_from_windows_is_read(self, folder: Path) -> None:
        text = "\ufeffpath,label\r\nng\\img1.png,bad\r\nok\\img1.png,fine\r\n"
        (folder / "list.csv").write_text(text, encoding="utf-8")
        assert len(sources.load_data(f"csv:{folder / 'list.csv'}")) == 2
        (folder / "list.csv").write_bytes("path,label\nng/img1.png,不良\n".encode("cp932"))
        with pytest.raises(DataError, match="save it as 'CSV UTF-8'"):
            sources.load_data(f"csv:{folder / 'list.csv'}")

    def test_arrays_are_images_tokens_or_arguments(self, tmp_path: Path) -> None:
        images = np.zeros((4, 5, 5), dtype=np.uint8)
        file, labels = tmp_path / "a.npz", np.arange(4) % 2
        np.savez(file, images=images, labels=labels, class_names=np.array(["ng", "ok"]))
        data = sources.load_data(f"npz:{file}", preprocess=GRAY)
        assert data[0][0].shape == (1, 5, 5)
        assert data.class_names == ("ng", "ok")
        np.savez(file, x=np.ones((4, 7)), y=labels)
        inputs, target = next(iter(sources.load_data(f"npz:{file}").batches(3)))
        assert (inputs.dtype, inputs.shape, target.tolist()) == (torch.float32, (3, 7), [0, 1, 0])
        tokens = np.arange(12).reshape(4, 3)
        np.savez(file, input_ids=tokens, attention_mask=tokens > 0, labels=tokens)
        data = sources.load_data(f"npz:{file}")
        inputs, target = data[1]
        assert inputs["input_ids"].tolist() == target.tolist() == [3, 4, 5]
        assert data.class_names == ()
        assert len(data.data_hash) == 64
        with pytest.raises(DataError, match="holds no images"):
            data.thumbnail(0)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"images": np.array([{}]), "labels": np.arange(1)}, "Python objects instead of"),
            ({"images": np.zeros((2, 4, 4, 7), np.uint8), "y": np.arange(2)}, "channels last"),
            ({"x": np.zeros((2, 3)), "y": np.arange(3)}, "the same first dimension"),
            ({"x": np.zeros((2, 3))}, "should hold inputs"),
            ({"x": np.zeros((2, 3)), "y": np.zeros(2)}, "integers or names"),
            ({"x": np.zeros((2, 3)), "y": np.array([0, -1])}, "label -1 is negative"),
            ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, "no example"),
        ],
    )
    def test_a_wrong_array_file_is_named(
        self, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
    ) -> None:
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(DataError, match=message):
            sources.load_data(f"npz:{tmp_path / 'a.npz'}")

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("folder:nowhere", "the folder .*nowhere does not exist"),
            ("folder:.", "has no sub-folders"),
            ("images:.", "holds no images"),
            ("parquet:nowhere", "there is no parquet file"),
            ("parquet:no-*.parquet", "there is no parquet file"),
            ("npz:nowhere", "the file .*nowhere does not exist"),
            ("csv:.", "is a folder"),
            ("hf:nowhere", "nothing is downloaded"),
            ("hf:.:test", r"holds no test\*\.parquet"),
        ],
    )
    def test_missing_data_is_named(self, tmp_path: Path, source: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            sources.load_data(source, root=tmp_path)

    def test_an_empty_class_and_a_wrong_class_list_are_named(self, folder: Path) -> None:
        with pytest.raises(DataError, match=r"missing: \['burr'\], not expected: \['ng'\]"):
            sources.load_data(f"folder:{folder}", classes=["burr", "ok"])
        for path in (folder / "ng").iterdir():
            path.unlink()
        with pytest.raises(DataError, match="no images of class ng"):
            sources.load_data(f"folder:{folder}")

    @pytest.mark.parametrize("edition", ["test", "train"])
    def test_parquet_in_the_hugging_face_layout(self, shared_dir: Path, edition: str) -> None:
        data = sources.load_data(f"parquet:data/cifar10-jpeg/{edition}.parquet", root=shared_dir)
        assert len(data) == {"test": 10_000, "train": 50_000}[edition]
        assert data.class_names[:2] == ("airplane", "automobile")
        assert np.bincount(data.targets).tolist() == [len(data) // 10] * 10


class TestSplits:
    def test_a_split_depends_on_content_alone(self, folder: Path) -> None:
        shares = {"calibration": 0.5, "test": 0.5}
        data = sources.load_data(f"folder:{folder}")
        before = {k: set(v.ids) for k, v in sources.split(data, shares, seed=0).items()}
        (folder / "ok" / "img1.png").rename(folder / "ok" / "zzz.png")
        renamed = sources.load_data(f"folder:{folder}")
        after = {k: set(v.ids) for k, v in sources.split(renamed, shares, seed=0).items()}
        assert before == after
        assert sum(map(len, before.values())) == 10

    def test_shares_must_make_sense(self, folder: Path) -> None:
        data = sources.load_data(f"folder:{folder}")
        with pytest.raises(ConfigError, match=r"add up to at most 1, not 1\.2"):
            sources.split(data, {"calibration": 0.6, "test": 0.6}, seed=0)

    def test_overlap_is_refused_and_named(self, folder: Path) -> None:
        copy = folder / "ok" / "img1.png"
        (folder.parent / "other" / "ok").mkdir(parents=True)
        (folder.parent / "other" / "ng").mkdir()
        (folder.parent / "other" / "ok" / "again.png").write_bytes(copy.read_bytes())
        unique = folder.parent / "other" / "ng" / "new.png"
        Image.new("RGB", (8, 6), (1, 2, 3)).save(unique)
        settings = DataSection(calibration=f"folder:{folder}", test=f"folder:{folder.parent}/other")
        with pytest.raises(DataError, match=r"ok/img1\.png = ok/again\.png"):
            sources.load_splits(settings, root=Path(), seed=0)

    def test_a_section_without_data_says_what_to_write(self) -> None:
        with pytest.raises(ConfigError, match=r"write data\.source"):
            sources.load_splits(DataSection.model_construct(), root=Path(), seed=0)
