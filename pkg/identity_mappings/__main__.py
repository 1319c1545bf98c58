"""The commands that need no more than torch: train a table's rows, print tables, show what is there.

python -m identity_mappings train --table 3 --row cifar10-110-original --seed 0 --tier quick
python -m identity_mappings evaluate --weights seed-0.safetensors
python -m identity_mappings watch --table 3 --row cifar10-164-original
python -m identity_mappings status --next 5
python -m identity_mappings contribute --name "as you wish to be named"
python -m identity_mappings receive contribution.jsonl
python -m identity_mappings doctor
python -m identity_mappings table --table 3 --tier quick
python -m identity_mappings data --dataset cifar10
python -m identity_mappings bench --depth 110 --json bench.json
"""

import argparse
import sys

from .guard import deafen, guarded

BUDGET = "stop in time, with checkpoints, within so long: 25m, 1h30m or 90s; the same command goes on"
CLUSTER = "train on a Ray cluster: HOST:PORT of its head, or auto: the one that this machine is of, or this machine"
SHARED = "with --cluster: all its machines have the results folder under the same path"


def parser():
    """The command line's parser. It imports torch, for it names tables and layouts: call it under guard."""
    from .experiments import paper
    from .experiments.protocols import TIERS
    from .weights.evaluation import BATCH, DATASETS
    from .weights.foreign import NAMES

    names = ", ".join(map(str, paper.GROUPS))
    top = argparse.ArgumentParser(prog="python -m identity_mappings", description=__doc__.split("\n")[0])
    kinds = top.add_subparsers(
        dest="command",
        required=True,
        metavar="train | evaluate | watch | doctor | status | table | data | contribute | receive | bench",
    )

    def command(name, help):
        made = kinds.add_parser(name, help=help, description=help)
        return made

    def recipe(made):
        made.add_argument("--tier", help="; ".join(f"{tier}: {words}" for tier, words in TIERS.items()))
        made.add_argument("--depth", type=int, help="a smaller depth than the row's (not in the paper tier)")
        made.add_argument("--iterations", type=int, help="fewer iterations than the tier's (not in the paper tier)")
        made.add_argument("--width", type=int, help="fewer channels of the first stage (not in the paper tier)")

    def runs(made):
        made.add_argument("--table", required=True, help=f"the paper's table, or a study: {names}")
        made.add_argument("--row", action="append", default=[], help="a row's id; may be repeated; default: all rows")
        made.add_argument(
            "--seed",
            type=int,
            action="append",
            default=[],
            help="a seed; may be repeated; default: 0, for a study its own",
        )
        recipe(made)
        made.add_argument("--device", default="auto", help="auto, cpu or cuda")
        made.add_argument(
            "--precision", default="fp32", help="fp32, bf16 (autocast), bf16-skip-fp32, or fp16 for GPUs without bf16"
        )

    train = command("train", "Train the runs of a table's rows that have no record yet.")
    runs(train)
    train.add_argument("--data", help="ImageNet's folder, with train and val; default: imagenet in the data folder")
    train.add_argument("--weights", action="store_true", help="keep each run's weights beside its record")
    train.add_argument("--budget", help=BUDGET)
    train.add_argument("--cluster", metavar="auto|ADDRESS", help=CLUSTER)
    train.add_argument("--shared", action="store_true", help=SHARED)
    evaluate = command("evaluate", "Print a network's top-1 and top-5 error on a data set's test images.")
    evaluate.add_argument("--weights", required=True, help="a .safetensors file, or another repository's checkpoint")
    evaluate.add_argument("--dataset", help=f"{', '.join(DATASETS)}; default: the weights' own")
    evaluate.add_argument("--data", help="the folder of CIFAR's files, or of images with a subfolder a class")
    evaluate.add_argument("--layout", help=f"of another repository's checkpoint: {', '.join(NAMES)}")
    evaluate.add_argument("--depth", type=int, help="of another repository's network, as the paper counts layers")
    evaluate.add_argument("--branch", help="of another repository's network: basic or bottleneck; default: by depth")
    for key, what in (("mean", "subtracted"), ("std", "divided by")):
        evaluate.add_argument(
            f"--{key}", type=float, nargs="+", help=f"{what}, a number per channel, 0 to 1; default: the weights' own"
        )
    evaluate.add_argument("--crop", type=int, help="224 from a shorter side of 256 (default), or 320 from 320")
    evaluate.add_argument("--batch", type=int, default=BATCH, help="images at a time")
    evaluate.add_argument("--device", default="auto", help="auto, cpu or cuda")
    evaluate.add_argument("--precision", help="fp32 or bf16 (autocast); default: the weights' own, else fp32")
    watch = command("watch", "Train runs once more and keep what their Residual Units do on the way (section 4.2).")
    runs(watch)
    watch.add_argument("--budget", help=BUDGET)
    doctor = command("doctor", "Say what this machine has, what of it works, and what to begin with; half a minute.")
    doctor.add_argument("--device", default="auto", help="auto, cpu or cuda")
    doctor.add_argument("--json", action="store_true", help="print it as JSON")
    status = command("status", "Show how many runs each row has, per tier, and what is next.")
    status.add_argument("--table", help="only this table")
    status.add_argument(
        "--next", type=int, help="instead, so many of the runs that would tell most, and their cost here"
    )
    status.add_argument("--tier", help="of --next; default: this machine's")
    contribute = command("contribute", "Pack this machine's finished runs into one file for others.")
    contribute.add_argument("--name", default="", help="your name as it is to be shown; default: none")
    contribute.add_argument("--out", default="contribution.jsonl", help="default: contribution.jsonl")
    contribute.add_argument("--table", help="only this table or study")
    contribute.add_argument("--row", action="append", default=[], help="only this row; may be repeated")
    contribute.add_argument("--tier", help="only this tier")
    receive = command("receive", "Check contributed records and add those that are new.")
    receive.add_argument("file", nargs="?", help="a contribution, or one record's own file")
    receive.add_argument("--dry-run", action="store_true", help="check, and add nothing")
    receive.add_argument("--changes", nargs=2, metavar=("BASE", "HEAD"), help="check the records that a commit adds")
    table = command("table", "Print a table from the records.")
    table.add_argument("--table", required=True, help=f"the paper's table, or a study: {names}")
    recipe(table)
    data = command("data", "Download a data set unless it is there, and check it.")
    data.add_argument("--dataset", required=True, help="cifar10 or cifar100")
    bench = command("bench", "Measure images per second against a common training loop on this machine.")
    bench.add_argument("--depth", type=int, action="append", default=[], help="may be repeated; default: 20 and 110")
    bench.add_argument(
        "--runs", type=int, action="append", default=[], help="at once; may be repeated; default: 1 and the cores"
    )
    bench.add_argument("--precision", action="append", default=[], help="may be repeated; default: fp32 and bf16")
    bench.add_argument("--seconds", type=float, default=5.0, help="of each measurement; default: 5")
    bench.add_argument("--repeats", type=int, default=5, help="of each measurement, in turn; default: 5")
    bench.add_argument("--batch", type=int, default=128, help="default: 128")
    bench.add_argument("--size", type=int, default=32, help="of the images, pixels a side; default: 32")
    bench.add_argument("--width", type=int, default=16, help="channels of the first stage; default: 16")
    bench.add_argument("--device", default="auto", help="auto, cpu or cuda")
    bench.add_argument("--json", help="a file for the results")
    return top


def main(arguments=None):
    """Run a command; returns the exit status, as `guard.guarded` does. A wrong command line raises SystemExit(2)."""

    def action():
        from . import commands

        given = vars(parser().parse_args(arguments))
        getattr(commands, given.pop("command"))(**given)

    return guarded(action)


if __name__ == "__main__":
    status = main()
    deafen()
    sys.exit(status)
