"""Images per second of this library's trainer against what common repositories do, measured in one run.

python -m identity_mappings bench --depth 20 --depth 110 --runs 1 --runs 2 --seconds 5 --json bench.json

The baseline: PIL images through torchvision's transforms in a DataLoader with two workers, eager float32 NCHW, BN over
the whole batch, torch.optim.SGD, the loss read after each iteration; the same network. Images are synthetic, of
CIFAR's shape. Baseline and ours take turns, so that what else the machine does falls on both, and a ratio is between
neighbours in time.
"""

import json
import multiprocessing
import platform
import signal
import statistics
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision

from .. import environment, grids
from ..data import Dataset
from ..data.batches import Images
from ..errors import UsageError, choose, whole
from ..experiments.protocols import CIFAR
from ..hardware import be_exact, device_name
from ..hardware import cores as cores_of
from ..iteration import memory
from ..iteration.capture import faster, uncompiled
from ..iteration.step import PRECISIONS, Step
from ..nets.counts import BYTES, activation_bytes, count
from ..nets.networks import cifar_spec
from ..training.loop import stream
from ..training.state import EVALUATION_BATCH, mistakes
from ..workers import follow_parent, kill, signals_wait

BASELINE = (
    "torchvision transforms in a DataLoader with two workers, eager fp32 NCHW, BN over the batch, torch.optim.SGD"
)
IMAGES = 5_000
DEEPEST = 2_000  # layers; the paper's deepest net has 1,202, and counting what one needs takes a while
PASSES = 16  # over the conv outputs, in and out of memory, of a step whose BN and ReLU are compiled round the convs
CIFAR_IMAGES, CIFAR_TEST = 50_000, 10_000  # of an epoch: trained on once, and evaluated
HEADER = ("net", "trainer", "images/s", "min-max", "x baseline", "min-max", "bytes", "arithmetic", "epoch, s")


@dataclass(frozen=True)
class Case:
    """What is trained: a network of the paper at a width of its first stage and a size of image, in batches."""

    depth: int
    width: int
    size: int
    batch: int

    @property
    def spec(self):
        return cifar_spec(self.depth, widths=(self.width, 2 * self.width, 4 * self.width))

    @property
    def protocol(self):
        return replace(CIFAR, batch=self.batch)

    def __str__(self):
        width = "" if self.width == 16 else f", {self.width} channels"
        return f"ResNet-{self.depth}{width}, {self.size} x {self.size}"


# What the trainer is to reach on a CPU of two cores: case, trainer, times the baseline at least.
AIMS = (
    (Case(110, 16, 32, 128), "ours, fp32, R = 1", 1.15),
    (Case(110, 16, 32, 128), "ours, bf16, R = 1", 1.5),
    (Case(110, 8, 16, 128), "ours, fp32, R = 2", 2.0),
    (Case(110, 8, 16, 128), "ours, bf16, R = 2", 2.0),
)


def dataset(size, n=IMAGES):
    """Random images (n, size, size, 3) of ten classes: how fast a net trains does not depend on what it sees."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (n, size, size, 3), dtype=np.uint8), random.integers(0, 10, n)
    return Dataset("synthetic", x, y, x[:500], y[:500], classes=10)


class AsPIL(torch.utils.data.Dataset):
    """Images as the common data sets hand them to transforms."""

    def __init__(self, data, transform):
        self.data, self.transform = data, transform

    def __len__(self):
        return len(self.data.x_train)

    def __getitem__(self, index):
        from PIL import Image

        return self.transform(Image.fromarray(self.data.x_train[index])), int(self.data.y_train[index])


class Baseline:
    """Each call trains an iteration as common repositories do; see the top of this file."""

    def __init__(self, case, device):
        from torchvision import transforms as T

        torch.backends.cudnn.benchmark = True
        crop, flip = T.RandomCrop(case.size, padding=4), T.RandomHorizontalFlip()
        normalise = T.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
        self.loader = torch.utils.data.DataLoader(
            AsPIL(dataset(case.size), T.Compose([crop, flip, T.ToTensor(), normalise])),
            batch_size=case.batch,
            shuffle=True,
            drop_last=True,
            num_workers=2,
            pin_memory=device == "cuda",
            persistent_workers=True,
        )
        self.device, self.batches = device, self._epochs()
        self.network = case.spec.build().to(device).train()
        self.loss = torch.nn.CrossEntropyLoss()
        self.sgd = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)

    def _epochs(self):
        while True:
            yield from self.loader

    def __call__(self):
        images, labels = (part.to(self.device, non_blocking=True) for part in next(self.batches))
        loss = self.loss(self.network(images), labels)
        self.sgd.zero_grad()
        loss.backward()
        self.sgd.step()
        loss.item()


class Ours:
    """Each call takes an iteration of each of `runs` runs, as `training.many` does on a CUDA device."""

    def __init__(self, case, device, precision, runs=1):
        be_exact(device)
        images, self.test = Images.pair(dataset(case.size), "pixel", device)
        on_cuda = memory.evaluated_at_once(case.spec, images.size, precision)
        self.at_once = EVALUATION_BATCH if device == "cpu" else on_cuda
        self.iteration, self.runs = 0, []
        for seed in range(runs):
            context = stream(device)
            with context:
                step = Step(case.spec, images, case.protocol, seed, device, precision)
                step.batches.bring(0)
                self.runs.append((context, step, faster(step, print).take))

    def __call__(self):
        for context, step, take in self.runs:
            with context:
                step.batches.bring(self.iteration)
                take()
        self.iteration += 1

    def evaluation(self):
        """Seconds in which each run evaluates as many images as CIFAR's test set has, the runs in turn."""
        begin = time.perf_counter()
        for context, step, _ in self.runs:
            with context, uncompiled(step.device):
                step.network.eval()
                mistakes(step, self.test, len(self.test), self.at_once)
                step.network.train()
        environment.wait(step.device)
        return (time.perf_counter() - begin) / len(self.test) * CIFAR_TEST


def _serve(connection, make, arguments):
    """A process that trains when asked to: gets (seconds, threads), answers (iterations, seconds); None ends it."""
    follow_parent()
    if hasattr(signal, "pthread_sigmask"):  # SIGTERM has waited since the start; by it a DataLoader ends its processes
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    torch.set_num_threads(1)
    iterate = make(*arguments)
    iterate()
    evaluation = getattr(iterate, "evaluation", lambda: None)
    evaluation()  # the first chooses algorithms
    connection.send(evaluation())
    while (asked := connection.recv()) is not None:
        seconds, threads = asked
        torch.set_num_threads(threads)
        iterations, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            iterate()
            iterations += 1
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        connection.send((iterations, time.perf_counter() - begin))


class Trainer:
    """One or more processes that train a case at once; `measure` gives the images per second of all together."""

    def __init__(self, name, make, arguments, batch, processes=1, threads=1):
        self.name, self.batch, self.threads = name, batch, threads
        context, self.workers = multiprocessing.get_context("spawn"), []
        for _ in range(processes):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, make, arguments))
            with signals_wait():
                process.start()
            there.close()  # so that the end of the process is the end of what can be received
            self.workers.append((process, here))
        evaluations = [seconds for seconds in self._answers() if seconds is not None]
        self.evaluation = max(evaluations, default=None)

    def _answers(self):
        try:
            return [connection.recv() for _, connection in self.workers]
        except (EOFError, ConnectionError):
            raise self._gone() from None

    def _gone(self):
        return UsageError(
            f"a process of {self.name!r} ended by itself, often for want of memory: choose a smaller --batch"
        )

    def measure(self, seconds):
        try:
            for _, connection in self.workers:
                connection.send((seconds, self.threads))
        except ConnectionError:
            raise self._gone() from None
        return sum(self.batch * iterations / took for iterations, took in self._answers())

    def stop(self):
        for process, connection in self.workers:
            with suppress(OSError):  # of a process that is gone
                connection.send(None)
            process.join()


def trainers(case, device, precisions, runs, cores):
    """Starts the trainers to compare on a case, the baseline first; on a CPU each run is a process with its cores."""
    yield Trainer("baseline", Baseline, (case, device), case.batch, 1, cores)
    for precision in precisions:
        for at_once in runs:
            if device == "cpu":
                how = (case, device, precision), case.batch, at_once, cores // at_once
            else:
                how = (case, device, precision, at_once), case.batch * at_once, 1, cores
            yield Trainer(f"ours, {precision}, R = {at_once}", Ours, *how)


def floors(device):
    """{"copy": bytes per second read and written by a copy, "matmul": {precision: operations per second}}, measured."""
    n, elements = (8192, 1 << 28) if device == "cuda" else (1024, 1 << 25)
    source = torch.zeros(elements, device=device)
    target = torch.empty_like(source)

    def fastest(action):
        taken = []
        for _ in range(5):
            _finish(device)
            begin = time.perf_counter()
            action()
            _finish(device)
            taken.append(time.perf_counter() - begin)
        return min(taken)

    rates = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.zeros(n, n, device=device, dtype=dtype)
        rates[precision] = 2 * n**3 / fastest(lambda a=a: a @ a)
    return {"copy": 2 * source.nbytes / fastest(lambda: target.copy_(source)), "matmul": rates}


def _finish(device):
    if device == "cuda":
        torch.cuda.synchronize()


def shares(case, precision, images_per_second, measured):
    """(of the byte floor, of the arithmetic floor): how much of what the device could do at most is done, 0 to 1.

    The byte floor moves each conv output PASSES times at the speed of the copy; the arithmetic floor does every
    multiply-add of forward and backward at the speed of the matrix product.
    """
    counts = count(case.spec, (case.size, case.size))
    moved = PASSES * counts.elements * BYTES[precision]
    speed = measured["matmul"]["fp32" if precision == "fp32" else "bf16"]
    return images_per_second * moved / measured["copy"], images_per_second * counts.training_flops / speed


def summarise(case, names, rounds, measured, evaluations=()):
    """Results of a case: for each trainer its images per second in each round and the ratio to that round's baseline.

    rounds: one list of images per second a round, in the order of `names`, the baseline's first. evaluations: seconds
    of an evaluation, in that order; with them, what an epoch of CIFAR takes for each of the runs at once.
    """
    results, evaluations = [], dict(zip(names, evaluations, strict=False))
    for place, name in enumerate(names):
        rates = [each[place] for each in rounds]
        precision = name.split(", ")[1] if place else "fp32"
        bytes_share, arithmetic_share = shares(case, precision, statistics.median(rates), measured)
        results.append(
            {
                "case": asdict(case) | {"name": str(case)},
                "trainer": name,
                "images_per_second": rates,
                "ratio": [each[place] / each[0] for each in rounds],
                "epoch_seconds": _epoch(name, statistics.median(rates), evaluations.get(name)),
                "share_of_byte_floor": bytes_share,
                "share_of_arithmetic_floor": arithmetic_share,
            }
        )
    return results


def _epoch(name, rate, evaluation):
    """Seconds of an epoch, its evaluation included, of all runs at once, over their number; None without evaluation."""
    if evaluation is None:
        return None
    return CIFAR_IMAGES / rate + evaluation / int(name.rpartition("R = ")[2])


def table(results):
    """The results as lines of text, one a trainer: medians with the smallest and largest of the rounds."""
    lines = [HEADER]
    for result in results:
        rates, ratios = result["images_per_second"], result["ratio"]
        lines.append(
            (
                result["case"]["name"],
                result["trainer"],
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f}-{max(rates):,.0f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f}-{max(ratios):.2f}",
                f"{result['share_of_byte_floor']:.1%}",
                f"{result['share_of_arithmetic_floor']:.1%}",
                "" if result["epoch_seconds"] is None else f"{result['epoch_seconds']:,.1f}",
            )
        )
    return "\n".join(grids.plain(lines))


def checked(depths, runs, precisions, seconds, repeats, batch, size, width, device, cores, available):
    """The cases of a bench, or a UsageError for what cannot be measured here. `available`: bytes of memory."""
    for precision in precisions:
        choose(precision, PRECISIONS, "precision")
        environment.suits(precision, device)
    for depth in depths:
        whole(depth, "depth", 1, DEEPEST)
    for at_once in runs:
        whole(at_once, "runs", 1, 1000)
    whole(repeats, "repeats", 1, 1000)
    whole(batch, "batch", 1, IMAGES)  # a larger one is never full
    whole(size, "size", 1, 1 << 16)
    whole(width, "width", 1, 1 << 16)
    if not 0 < seconds <= 3_600:  # which nan is not, either
        raise UsageError(f"seconds must be more than 0 and at most 3,600; got {seconds}")
    if device == "cpu" and max(runs) > cores:
        raise UsageError(f"runs at once on a CPU are at most its cores, {cores}; got {max(runs)}")
    cases = [Case(depth, width, size, batch) for depth in depths]
    for case in cases:
        kept = [activation_bytes(case.spec, (size, size), batch, precision) * max(runs) for precision in precisions]
        images = IMAGES * 3 * size * size * (1 + max(runs))
        needed = activation_bytes(case.spec, (size, size), batch, "fp32") + sum(kept) + images
        if needed > available:
            raise UsageError(
                f"{case} in batches of {batch} needs about {needed / 2**30:.0f} GiB for all that is compared; "
                f"{available / 2**30:.0f} GiB are free: choose a smaller --batch, or fewer --runs and --precision"
            )
    return cases


def bench(depths, runs, precisions, seconds, repeats, batch, size, width, device, say=print):
    """Measure, print the table, and return all of it as plain JSON types. Raises UsageError as `checked` does."""
    cores = cores_of()
    runs = runs or ((1, 2, 3, 5) if device == "cuda" else tuple(sorted({1, cores})))
    available = memory.free(device) or memory.main()
    cases = checked(depths, runs, precisions, seconds, repeats, batch, size, width, device, cores, available)
    say(f"baseline: {BASELINE}")
    say(f"{device_name(device)}, {cores} cores, torch {torch.__version__}; synthetic images, batches of {batch}")
    measured, results = floors(device), []
    for case in cases:
        made = []
        try:
            made.extend(trainers(case, device, precisions, runs, cores))
            rounds = [[trainer.measure(seconds) for trainer in made] for _ in range(repeats)]
        except BaseException:  # Ctrl-C, say: what is being measured is of no use any more
            kill()
            raise
        for trainer in made:
            trainer.stop()
        evaluations = [trainer.evaluation for trainer in made]
        results += summarise(case, [trainer.name for trainer in made], rounds, measured, evaluations)
    say(table(results))
    say(f"bytes, arithmetic: the share of the floor of {PASSES} passes over the conv outputs at the speed of a copy")
    say("(an arithmetic one: of a matrix product), both measured here; on a CPU the copy is of memory, not of caches")
    return {
        "baseline": BASELINE,
        "data": f"{IMAGES} synthetic images",
        "device": device_name(device),
        "device_type": device,
        "cores": cores,
        "seconds": seconds,
        "repeats": repeats,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
        "floors": measured,
        "passes": PASSES,
        "results": results,
    }


def check_writable(path):
    """Raises OSError where the outcome could not be written to `path`: better before the measurement than after."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a"):
        pass


def write(path, outcome):
    """The outcome as a JSON file."""
    with open(path, "w") as file:
        json.dump(outcome, file, indent=1)
        file.write("\n")
