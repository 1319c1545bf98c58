"""Spring each trap of tests/test_traps.py in a copy of the library, and demand that its test fails.

python tests/spring_traps.py            all of them, two at a time
python tests/spring_traps.py 07 13      those alone

Each mutation replaces one stretch of text that must occur exactly once in its file, so that a mutation which no longer
fits the code is an error and never a silent success. The table is printed; the exit status is 1 where a test did not
fail as it should, or where the tests do not pass on the unchanged copy.
"""

import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent / "pkg" / "identity_mappings"


class Mutation(NamedTuple):
    """How a trap is sprung: (file, text, its replacement) once or more, all applied together."""

    trap: str
    what: str
    edits: tuple


def once(trap, what, file, old, new):
    return Mutation(trap, what, ((file, old, new),))


NETWORKS, UNITS, ORDERS, SHORTCUTS, NORM = (
    f"nets/{name}.py" for name in ("networks", "units", "orders", "shortcuts", "norm")
)
PROTOCOLS, PAPER = "experiments/protocols.py", "experiments/paper.py"
BATCHES, SGD, STEP, LOOP = "data/batches.py", "iteration/sgd.py", "iteration/step.py", "training/loop.py"
VERDICTS = "results/verdicts.py"

MUTATIONS = (
    Mutation(
        "01_bottleneck_widths",
        "stage 1 stays at 16 channels",
        (
            (NETWORKS, "Conv(1, 4 * width)]", "Conv(1, 4 * width if width > 16 else width)]"),
            (NETWORKS, "channels = width * expansion", "channels = convs[-1].channels"),
        ),
    ),
    once("02_depth_names", "110 is a bottleneck", NETWORKS, "depth in (164, 1001)", "depth in (110, 164, 1001)"),
    once("03_last_units_activation", "no BN-ReLU at the end", NETWORKS, "chain(units_order.lead,", "chain((),"),
    once("04_first_unit", "activated again in its branch", UNITS, "and (first or resizes)", "and resizes"),
    once("04_first_unit", "activated again before its split", UNITS, "if opens and not first else", "if opens else"),
    Mutation(
        "05_projections",
        "the projection reads the raw signal",
        (
            (UNITS, "x = self.before(x)", "activated = self.before(x)"),
            (UNITS, "self.residual(x))", "self.residual(activated))"),
        ),
    ),
    once("05_projections", "BN after every projection", ORDERS, "return self.closing[:2]", "return CHAIN[:2]"),
    once("05_projections", "no BN after any projection", ORDERS, "return self.closing[:2]", "return CHAIN[:1]"),
    once(
        "06_zero_padded_identity",
        "average pooling in place of subsampling",
        UNITS,
        "x[:, :, :: self.stride, :: self.stride]",
        "F.avg_pool2d(x, self.stride)",
    ),
    once(
        "06_zero_padded_identity",
        "zero channels on both sides",
        UNITS,
        "(0, 0, 0, 0, 0, self.extra)",
        "(0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2)",
    ),
    once(
        "06_zero_padded_identity",
        "projections in basic nets",
        NETWORKS,
        '"projection" if branch == "bottleneck" else "pad"',
        '"projection"',
    ),
    once("07_stride_on_the_first_conv", "on the 3x3", NETWORKS, 'stride_on: str = "first"', 'stride_on: str = "3x3"'),
    once("08_warm_up", "for an epoch of 391", PROTOCOLS, "warmup: int = 400", "warmup: int = 391"),
    once("08_warm_up", "one iteration too long", PROTOCOLS, "iteration < self.warmup", "iteration <= self.warmup"),
    once("08_warm_up", "drops at epochs 81 and 122", PROTOCOLS, "(32_000, 48_000)", "(81 * 391, 122 * 391)"),
    once(
        "08_warm_up",
        "SGD is a step behind",
        STEP,
        "self.rates.index_select(0, self.counter)",
        "self.rates.index_select(0, (self.counter - 1).clamp(min=0))",
    ),
    once("09_weight_decay", "2e-4", PROTOCOLS, "weight_decay: float = 1e-4", "weight_decay: float = 2e-4"),
    once("09_weight_decay", "BN is spared", PROTOCOLS, "decay_bn: bool = True", "decay_bn: bool = False"),
    once(
        "09_weight_decay", "b_g is spared", PROTOCOLS, "decay_gate_bias: bool = True", "decay_gate_bias: bool = False"
    ),
    once("10_padding", "black", PROTOCOLS, 'pad_value: str = "mean"', 'pad_value: str = "black"'),
    once("11_the_last_iteration", "the best", LOOP, 'state.curve["test_error"][-1]', 'min(state.curve["test_error"])'),
    once(
        "11_one_run",
        "a verdict from one run",
        VERDICTS,
        'return Verdict("underpowered", n, "n = 1: no interval")',
        'return Verdict("consistent" if abs(summary.median - published.error) <= RESOLUTION else "differs", n)',
    ),
    once(
        "12_dropout",
        "kept values rescaled",
        SHORTCUTS,
        '{"p": None, "rescale": False}',
        '{"p": None, "rescale": True}',
    ),
    once("12_dropout", "no halving in evaluation", SHORTCUTS, "(1 - self.p) * kept", "(kept != 0) * x"),
    once("13_bn", "over all 128", PROTOCOLS, "bn_group: int | None = 64", "bn_group: int | None = None"),
    once("13_bn", "the group is never set", STEP, "set_group(network, protocol.bn_group)", "pass"),
    once("13_bn", "128 in halves by parity", NORM, "x.split(self.group)", "(x[0::2], x[1::2])"),
    once(
        "13_bn",
        "running statistics of every group",
        NORM,
        "(self._normalised(part, None, None, 0.0) for part in others)",
        "(self._first(part) for part in others)",
    ),
    once("13_bn", "64 in the batch-64 run", PAPER, "batch=64, bn_group=32", "batch=64, bn_group=64"),
    once("14_bn_on_shortcuts", "a bare 1x1", SHORTCUTS, "self.bn(self.conv(x)) + f", "self.conv(x) + f"),
    Mutation(
        "14_bn_on_shortcuts",
        "BN in the gates",
        tuple(
            (SHORTCUTS, f'({name}, {{"bias": None, "bn": False}}', f'({name}, {{"bias": None, "bn": True}}')
            for name in ("ExclusiveGate", "ShortcutGate")
        ),
    ),
    once("15_the_mean_image", "a mean a channel", PROTOCOLS, 'isation: str = "pixel"', 'isation: str = "channel"'),
    once(
        "15_the_mean_image",
        "test images lose a mean of their own",
        BATCHES,
        "x_test, dataset.y_test, mean,",
        "x_test, dataset.y_test, torch.from_numpy(dataset.x_test).float().mean(0),",
    ),
    once("16_the_rate", "inside the velocity", PROTOCOLS, 'velocity: str = "pytorch"', 'velocity: str = "caffe"'),
    once("16_the_rate", "Caffe's velocity times the rate again", SGD, "nesterov else v)", "nesterov else v * rate)"),
    once(
        "17_all_training_images",
        "45,000 of them",
        BATCHES,
        "cls(dataset.x_train, dataset.y_train,",
        "cls(dataset.x_train[:45_000], dataset.y_train[:45_000],",
    ),
    Mutation(
        "17_all_training_images",
        "an epoch's last, smaller batch dropped",
        (
            (BATCHES, "n, device = len(images),", "n, device = len(images) // protocol.batch * protocol.batch,"),
            (BATCHES, "n, first = len(self.images),", "n, first = self._ring.shape[1] // len(self._epochs),"),
            (BATCHES, "tables = self.tables(epoch)", "tables = self.tables(epoch)[:, :n]"),
        ),
    ),
    once(
        "17_all_training_images", "164 epochs of 390", PROTOCOLS, "iterations: int = 64_000", "iterations: int = 63_960"
    ),
)


def copied(folder, edits=()):
    """A copy of the library in `folder` with the edits made. Raises ValueError unless each fits exactly once."""
    shutil.copytree(LIBRARY, folder / LIBRARY.name, ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in edits:
        path = folder / LIBRARY.name / file
        text = path.read_text()
        if text.count(old) != 1:
            raise ValueError(f"{file} must hold this text exactly once, it holds it {text.count(old)} times: {old}")
        path.write_text(text.replace(old, new))


class Watch:
    """A pytest plugin that keeps how many tests passed, and of each failure whether the library itself broke."""

    def __init__(self, library):
        self.library, self.passed, self.failures = library, 0, []

    def pytest_runtest_logreport(self, report):
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            broken = crash is None or Path(crash.path).resolve().is_relative_to(self.library)
            self.failures.append((broken, crash.message if crash else str(report.longrepr)))
        self.passed += report.passed and report.when == "call"


def tested(edits, selection):
    """On a copy with the edits: how many of the selected tests passed, and [(library broke, message)] of the failures.

    Runs in a process of its own, which imports the library for the first time.
    """
    import pytest

    assert "identity_mappings" not in sys.modules
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        copied(Path(folder), edits)
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
        watch = Watch(Path(folder).resolve())
        with contextlib.redirect_stdout(nowhere):
            pytest.main([str(HERE / "test_traps.py"), "-k", selection, "-p", "no:cacheprovider"], [watch])
        import identity_mappings

        assert Path(identity_mappings.__file__).parent.parent == Path(folder)
        return watch.passed, watch.failures


def outcome(passed, failures):
    """ "yes", or why a mutation's test is no proof: it passed, it never ran, or the mutated library itself broke."""
    if not failures:
        return "NO: it passed" if passed else "NO: no test ran"
    broken = [message.partition("\n")[0] for broke, message in failures if broke]
    return f"NO: the library broke: {broken[0]}" if broken else "yes"


def processes():
    """Two processes at a time, a fresh one for each copy, forked where possible from one that has torch already."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(["torch", "torchvision", "pytest", "hypothesis", "sklearn.datasets"])
    return ProcessPoolExecutor(2, context, max_tasks_per_child=1)


def main(chosen):
    mutations = [m for m in MUTATIONS if not chosen or m.trap.split("_")[0] in chosen]
    os.environ["OMP_NUM_THREADS"] = "1"
    with processes() as pool:
        unchanged = pool.submit(tested, (), " or ".join(dict.fromkeys(f"test_{m.trap}" for m in mutations)))
        sprung = [pool.submit(tested, m.edits, f"test_{m.trap}") for m in mutations]
        passed, failures = unchanged.result()
        if failures or not passed:
            print(f"the tests do not pass on the library as it is: {failures}")
            return 1
        outcomes = [outcome(*future.result()) for future in sprung]
    print("trap | mutation | failed as it should")
    for mutation, found in zip(mutations, outcomes, strict=True):
        print(f"{mutation.trap} | {mutation.what} | {found}")
    print(f"{outcomes.count('yes')} of {len(mutations)} mutations failed as they should")
    return 0 if set(outcomes) <= {"yes"} else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
