"""Answers of the network in this folder on image files; needs onnxruntime, numpy and Pillow.

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
import onnxruntime  # noqa: E402
from edge import check, serve  # noqa: E402
from edge.display import json_printable, one_line, printable  # noqa: E402
from edge.images import SUFFIXES, open_image  # noqa: E402
from edge.pixels import input_pixels  # noqa: E402
from edge.properties import image_properties  # noqa: E402


class Network:
    """A model file of the package, its hash checked, with how images become its input."""

    def __init__(self, facts, entry, args):
        self.facts, self.entry, content = facts, entry, (HERE / entry["file"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            sys.exit(f"{entry['file']} is not the file that model.json names (other SHA-256).")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = args.threads, 3
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(content, options, providers=[args.provider])
        self.run = lambda inputs: session.run(None, {facts["input"]["name"]: inputs})[0]
        self.how = json.loads((HERE / "preprocess.json").read_text("utf-8"))
        self.labels = (HERE / "labels.txt").read_text("utf-8").split("\n")[:-1]

    def input(self, image):
        """Return an image as the network takes it, a batch of one."""
        names = ("size", "crop", "channels", "interpolation", "bits")
        pixels = input_pixels(image, **{name: self.how[name] for name in names})
        scale, mean, std = (np.float32(self.how[name]) for name in ("scale", "mean", "std"))
        pixels = (pixels.astype(np.float32) / scale - mean[:, None, None]) / std[:, None, None]
        return pixels[None]

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


def take_times(networks, args):
    """Time every model file at every batch size; return a line for each."""
    content = (HERE / networks[0].entry["examples"][0]["file"]).read_bytes()
    one = networks[0].input(open_image(content, networks[0].how["bits"]))
    batches = [np.repeat(one, size, axis=0) for size in networks[0].facts["batch_sizes"]]
    where = {"onnxruntime": onnxruntime.__version__, "dependency": args.provider}
    where["threads"] = args.threads
    return check.write_times(networks, batches, args.time, args.repeats, **where)


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
    parser.add_argument("--model", help="model file of the package; default: the first")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of onnxruntime")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as cores")
    args = parser.parse_args()
    facts = json.loads((HERE / "model.json").read_text("utf-8"))
    entries = [m for m in facts["models"] if args.model in (None, m["file"])]
    if not entries or not (args.paths or args.self_test or args.time):
        parser.error("name images or a folder, --self-test or --time; --model: one of model.json")
    networks = [Network(facts, entry, args) for entry in (entries if args.time else entries[:1])]
    if not args.time and not args.self_test:
        return answer_all(networks[0], args)
    lines = take_times(networks, args) if args.time else check.self_test(networks[0], HERE)
    print(printable("\n".join(lines)))
    return int(lines[0].startswith("FAILED"))


if __name__ == "__main__":
    sys.exit(main())
