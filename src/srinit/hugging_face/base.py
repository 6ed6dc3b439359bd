"""The folder that a network came from: its tokenizer and whatever else goes on with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from srinit.networks import packed_file

KEPT = frozenset(
    {"", ".json", ".jinja", ".model", ".spm", ".tiktoken", ".txt", ".vocab", ".bpe", ".md"}
)
"""Endings of what is copied: tokenizers, templates, processors, licenses. No weights, no code."""
MADE = frozenset({"config.json", "README.md", "trainer_state.json", "adapter_config.json"})
INDEX = ".index.json"
WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.onnx", "*.pt", "*.pth", "*.h5", "*.msgpack")
MOST_BYTES = 256 << 20
CARD = "README.md"


@dataclass(frozen=True)
class BaseFolder:
    """Where a network came from.

    Attributes:
        path: The folder.
        gguf: Its GGUF file, where the network was read from one.
    """

    path: Path
    gguf: Path | None = None

    def files(self) -> list[str]:
        """Return what goes on with the network unchanged, relative to the folder, sorted.

        Left out are weights, code, the config (it follows the cut), folders that hold other
        weights, and everything hidden.
        """
        if self.gguf is not None:
            return [name for name in self._below(self.path, "") if Path(name).suffix != ".md"]
        return sorted(self._below(self.path, ""))

    def _below(self, folder: Path, prefix: str) -> list[str]:
        found: list[str] = []
        for path in sorted(folder.iterdir()):
            name = f"{prefix}{path.name}"
            if path.name.startswith((".", "__")):
                continue
            if path.is_dir():
                if not path.is_symlink() and not any(any(path.rglob(w)) for w in WEIGHTS):
                    found += self._below(path, f"{name}/")
            elif self._is_kept(path, name):
                found.append(name)
        return found

    def _is_kept(self, path: Path, name: str) -> bool:
        if name in MADE or path.name.endswith(INDEX) or path.suffix.lower() not in KEPT:
            return False
        return path.is_file() and path.stat().st_size <= MOST_BYTES

    def left_out(self) -> list[str]:
        """Return what is said not to be copied: code, and files that are absurdly large."""
        large = [
            path.name
            for path in self.path.iterdir()
            if path.suffix.lower() in KEPT and path.is_file() and path.stat().st_size > MOST_BYTES
        ]
        return sorted([*(path.name for path in self.path.glob("*.py")), *large])

    def card(self) -> str:
        """Return the model card of the base; empty where it has none."""
        place = self.path / CARD
        if not place.is_file() or place.stat().st_size > (1 << 20):
            return ""
        return place.read_text("utf-8", errors="replace")


def base_folder(name: str, root: Path) -> BaseFolder | None:
    """Return the folder that `hf:NAME` stands for; None where it is a config or a name alone.

    Args:
        name: A folder, a GGUF file, or a name in the local cache of transformers.
        root: Folder that a relative path starts from.
    """
    place = root / name
    packed = packed_file(place)
    if packed is not None:
        return BaseFolder(packed.parent, packed)
    if place.is_dir():
        return BaseFolder(place)
    if place.exists() or name.count("/") > 1:
        return None
    from transformers.utils import cached_file

    try:
        found = cached_file(name, "config.json", local_files_only=True)
    except (OSError, ValueError):
        return None
    return None if found is None else BaseFolder(Path(found).parent)
