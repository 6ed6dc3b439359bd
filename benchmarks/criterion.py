"""The criterion on trial: which score predicts what a block's removal really costs?

    python benchmarks/criterion.py cost  --depth 20     the true cost, block by block, seed by seed
    python benchmarks/criterion.py score --depth 20     every criterion, on calibration images
    python benchmarks/criterion.py table                rank correlations, written as markdown

The true cost of a block: it is removed alone, normalization recalibrated, the network trained for
`--steps` steps, and its accuracy on the 10,000 test images compared, image by image, with that of
the unpruned network after the same treatment with the same batches. Repeat a command until it
says that it is complete: what is measured is kept.
"""

from __future__ import annotations

import argparse
import copy
import time

from cifar import RESULTS, Lab, Record, packed, parser
from srinit.surgery import remove_units

NINE = (1, 3, 5, 8)  # of every stage of nine blocks; spread over depth


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=sorted(COMMANDS))
    found.add_argument("--steps", type=int, default=60, help="of recovery, at batch 128")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--all", action="store_true", help="every block of a deep network")
    args = found.parse_args()
    COMMANDS[args.command](args)


def record_of(args: argparse.Namespace) -> Record:
    about = {"depth": args.depth, "steps": args.steps, "batch": 128, "arithmetic": "bfloat16"}
    path = RESULTS / f"criterion_resnet{args.depth}_{args.steps}.json"
    return Record(path, args, about)


def chosen(lab: Lab, args: argparse.Namespace) -> list[str]:
    """Return the blocks on trial: all, or for deep networks some of every stage."""
    names = lab.blocks()
    if args.all or len(names) <= 9:
        return names
    return [name for name in names if int(name.rpartition(".")[2]) in NINE]


def cost(args: argparse.Namespace) -> None:
    """Measure what is missing, the unpruned network first, seed by seed."""
    lab, record = Lab(args), record_of(args)
    for seed in range(args.seeds):
        for name in ["", *chosen(lab, args)]:
            if record.find(kind="cost", block=name, seed=seed):
                continue
            record.check_budget()
            began = time.process_time()
            model = copy.deepcopy(lab.model)
            if name:
                model = remove_units(model, [lab.units[name]], example_inputs=lab.inputs)
            lab.recalibrated_(model)
            lab.recover_(model, steps=args.steps, seed=seed)
            correct = lab.correct(model, lab.test)
            record.add(
                kind="cost",
                block=name,
                seed=seed,
                accuracy=float(correct.mean()),
                correct=packed(correct),
                cpu_seconds=round(time.process_time() - began, 1),
            )
            print(f"seed {seed} {name or 'unpruned'}: {correct.mean():.4f}", flush=True)
    print("complete")


COMMANDS = {"cost": cost}

if __name__ == "__main__":
    main()
