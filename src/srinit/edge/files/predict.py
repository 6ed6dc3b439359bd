"""Answers of the network in this folder on image files; README.md says what it needs.

python predict.py --self-test
python predict.py photo.png folder --log preds.jsonl
python predict.py incoming --watch --log preds.jsonl
python predict.py --time times.json
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True  # the folder stays as it was hashed

import numpy as np  # noqa: E402
from edge.display import json_printable, one_line, printable  # noqa: E402
from edge.images import SUFFIXES, open_image  # noqa: E402
from edge.pixels import input_pixels  # noqa: E402
from edge.properties import image_properties  # noqa: E402

from edge import check, runtimes, serve  # noqa: E402


class Network:
    """A model file of the package, its hash checked, with how images become its input."""

    def __init__(self, facts, entry, args):
        self.facts, self.entry, path = facts, entry, HERE / entry["file"]
        contents = [each.read_bytes() for each in runtimes.files_of(path)]
        if hashlib.sha256(b"".join(contents)).hexdigest() != entry["sha256"]:
            sys.exit(f"{path.name} is not the file that model.json names (other SHA-256).")
        how = {"threads": args.threads, "provider": args.provider, "contents": contents}
        self.model = runtimes.ModelFile(path, **how)
        self.run = lambda inputs: self.model({self.model.names[0]: inputs})
        if not args.time:
            self.how = json.loads((HERE / "preprocess.json").read_text("utf-8"))
            self.labels = (HERE / "labels.txt").read_text("utf-8").split("\n")[:-1]

    def input(self, image):
        """Return an image as the network takes it, a batch of one."""
        names = ("size", "crop", "channels", "interpolation", "bits")
        pixels = input_pixels(image, **{name: self.how[name] for name in names})
        scale, mean, std = (np.float32(self.how[name]) for name in ("scale", "mean", "std"))
        inputs = (pixels.astype(np.float32) / scale - mean[:, None, None]) / std[:, None, None]
        return inputs[None]

    def answer(self, content):
        """Return class, confidence, time and properties for the bytes of an image file."""
        begin = time.perf_counter()
        image = open_image(content, self.how["bits"])
        logits = self.run(self.input(image)).ravel()
        took = 1000 * (time.perf_counter() - begin)
        if not np.isfinite(logits).all():
            raise ValueError("the network's answer is not finite")
        logits = np.float64([0, logits[0]] if logits.size == 1 else logits)
        best, shares = int(logits.argmax()), np.exp(logits - logits.max())
        found = {"prediction": self.labels[best], "confidence": float(shares[best] / shares.sum())}
        return {**found, "latency_ms": took, **image_properties(image)}


def answer_all(network, args):
    """Print an answer a line, and log it; 1 if a file could not be read."""
    log, failed = serve.Log(args.log, network.entry["log_as"]) if args.log else None, 0
    for place, path in serve.found(args.paths, SUFFIXES, log, watch=args.watch):
        name = path.name if path == place else path.relative_to(place).as_posix()
        try:
            answer = network.answer(path.read_bytes())
        except Exception as error:  # a line on stderr; the others go on
            failed, answer = 1, {"error": str(error)[:1000] or type(error).__name__}
            print(one_line(f"{name}: {error}"), file=sys.stderr, flush=True)
        else:
            line = json.dumps({"image": name, **answer}, ensure_ascii=False)
            print(json_printable(line), flush=True)
        if log:
            log.write(name, answer)
    return failed


def main():
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="image files or folders")
    parser.add_argument("--watch", action="store_true", help="go on with what comes into a folder")
    parser.add_argument("--log", type=Path, help="prediction log for srinit monitor, appended to")
    parser.add_argument("--self-test", action="store_true", help="check hashes and ten answers")
    parser.add_argument("--time", type=Path, help="time every model file, write this JSON")
    parser.add_argument("--repeats", type=int, default=50, help="of --time")
    parser.add_argument(
        "--model", help="model file; default: the first that a runtime is there for"
    )
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of onnxruntime")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as cores")
    args = parser.parse_args()
    facts = json.loads((HERE / "model.json").read_text("utf-8"))
    named = [m for m in facts["models"] if args.model in (None, m["file"])]
    entries = [m for m in named if runtimes.installed(m["runtime"])]
    if not named or not (args.paths or args.self_test or args.time):
        parser.error("name images or a folder, --self-test or --time; --model: one of model.json")
    if facts.get("candidates") and not args.time:
        parser.error("these are candidates for --time alone: nobody judged their answers")
    if not entries:
        sys.exit(f"not installed: {', '.join(sorted({m['runtime'] for m in named}))}")
    networks = [Network(facts, entry, args) for entry in (entries if args.time else entries[:1])]
    if not args.time and not args.self_test:
        return answer_all(networks[0], args)
    where = {"dependency": args.provider, "threads": args.threads}
    timed = args.time and check.write_times(networks, args.time, args.repeats, **where)
    lines = timed or check.self_test(networks[0], HERE)
    print(printable("\n".join(lines)))
    return int(lines[0].startswith("FAILED"))


if __name__ == "__main__":
    sys.exit(main())
