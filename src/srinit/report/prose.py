"""Words that several parts of the page share: sentences in a row, schemes, devices."""

from __future__ import annotations

from srinit.custody.overrides import Override
from srinit.report.text import LocalizedText, Translator, join, untranslated

RUNTIMES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def prose(*texts: LocalizedText | None) -> LocalizedText:
    """Return sentences one after another: a space between them in English, none in Japanese.

    Example:
        >>> one, two = LocalizedText(ja="ある。", en="One."), LocalizedText(ja="いる。", en="Two.")
        >>> prose(one, None, two)
        LocalizedText(ja='ある。いる。', en='One. Two.')
    """
    return join([text for text in texts if text is not None], ja="", en=" ")


def scheme_text(scheme: str, scale: float, say: Translator) -> LocalizedText:
    """Return how weights were drawn again, and with which factor."""
    return say("provenance.scheme_text", name=scheme_name(scheme, say), scale=f"{scale:g}")


def scheme_name(scheme: str, say: Translator) -> LocalizedText:
    """Return how weights were drawn again; a scheme of the user's own keeps its name."""
    return say(f"scheme.{scheme}") if say.has(f"scheme.{scheme}") else untranslated(scheme)


def device_words(device: str, runtime: str = "") -> LocalizedText:
    """Return a device, and what ran the network on it, as people write them."""
    words = [device.upper() if device.startswith("cpu") else device] if device else []
    words += [RUNTIMES.get(runtime, runtime)] if runtime else []
    return join([untranslated(word) for word in words], ja="・", en=", ")


def edit_text(edit: Override, say: Translator) -> LocalizedText:
    """Return what an edit by hand changed of the plan that was computed."""
    changes = {"added": edit.added, "left_out": edit.left_out}
    words = [say(f"edit.{key}", names=", ".join(n)) for key, n in changes.items() if n]
    return join(words) if words else say("edit.order", names=", ".join(edit.after))
