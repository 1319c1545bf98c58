"""A step recorded once as a CUDA graph and replayed: one launch an iteration in place of thousands.

The step is the same object as without: what it reads and writes stays at its address, so that a replay is an
iteration. Each recording has a memory pool of its own, so that several runs may replay at once, each on its stream.
"""

import gc
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..nets.norm import PARTS
from ..nets.shortcuts import Dropout
from ..nets.units import ResidualUnit
from .check import Snapshot, checked

COMPILED, RECORDED, PLAIN = WAYS = ("compiled and recorded", "recorded", "step by step")  # the fastest first
UNRECORDED = "compiled"  # of units so large that a recording would save nothing
ALL_WAYS = (COMPILED, UNRECORDED, RECORDED, PLAIN)  # names that an environment may have
WARM_UP = 3  # iterations before recording, in which libraries choose algorithms and reserve what they need
VARIANTS = 64  # compiled variants of one region that a process may hold: units have a handful for each kind of network


@dataclass(frozen=True)
class Way:
    """How iterations are taken: `take()` takes one. name: of ALL_WAYS; agreement: the self-check's, or None."""

    take: Any
    name: str = PLAIN
    agreement: dict | None = None


def faster(step, say, begin=COMPILED):
    """The `Way` that takes the step's iterations the fastest way that its device and network allow.

    On a CPU the step itself. On CUDA its recording, of compiled `regions`; where that fails, of them as they are; where
    that fails, the step itself. A way fails that raises, and one that does not agree with the plain step (`checked`);
    the state is then as it was. A step that draws random numbers is not compiled: the compiler draws others.
    begin: the first of WAYS to try. say(line): told why less than the best is done.
    Call it on the stream that the run trains on, with no other recording under way.
    """
    if step.device.type != "cuda":
        return Way(step)
    draws = any(isinstance(module, Dropout) for module in step.network.modules())
    for name in WAYS[max(WAYS.index(begin), draws) : -1]:
        try:
            return recorded(step, name)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of the compiler, of the capture, of the check
            compile_regions(step, compiled=False)
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            say(f"the step could not be {name} ({reason}): {WAYS[WAYS.index(name) + 1]}")
    return Way(step)


def recorded(step, name):
    """The checked `Way` of that name, COMPILED or RECORDED."""
    compile_regions(step, name == COMPILED)
    take = Recorded(step)
    return Way(take, name, checked(step, take, lambda: uncompiled(step.device)))


def regions(step):
    """What is compiled, each by itself, as (owner, name of its method): all of an iteration but copies of weights.

    Units of one shape share one compiled graph, as long as nothing about a unit but its tensors tells it from others:
    the time to compile is that of the handful of kinds of units, whatever the depth. The gradients of all weights are
    gathered outside: their number follows the depth.
    """
    network = step.network
    units = [module for module in network.modules() if isinstance(module, ResidualUnit)]
    yield step, "batch"
    yield from ((module, "forward") for module in (network.stem, *units))
    yield network, "head"
    yield step, "loss"
    yield step.sgd, "update"
    yield step, "account"


def compile_regions(step, compiled=True, **options):
    """Have each of the step's `regions` compiled by itself, or no longer.

    `options`: torch.compile's; by default Inductor with `inductor_options`. A variant beyond VARIANTS raises where it
    is first called.
    """
    if compiled:
        _configure("recompile_limit", "cache_size_limit", VARIANTS)
        # else all variants beyond the limit run as they are, unannounced
        _configure("fail_on_recompile_limit_hit", "fail_on_cache_limit_hit", True)
        options = options or {"options": inductor_options()}
    for owner, method in regions(step):
        vars(owner).pop(method, None)  # what was compiled hides the class's own
        if compiled:
            setattr(owner, method, torch.compile(getattr(owner, method), dynamic=False, **options))


def _configure(name, earlier, least):
    """Raise a setting of Dynamo to `least`, by the name that this torch has for it, or an earlier one had."""
    name, config = name if hasattr(torch._dynamo.config, name) else earlier, torch._dynamo.config
    setattr(config, name, max(least, getattr(config, name)))


def inductor_options():
    """Inductor's options for a region, those that this torch has.

    Small kernels side by side in one launch, no sum laid out as a timing has it; no reduction split into more kernels,
    for `norm.Grouped` splits its own; and its sums of a few parts written out where they are used, not in a kernel of
    their own.
    """
    wanted = {"combo_kernels": True, "combo_kernels_autotune": 0, "deterministic": True, "split_reductions": False}
    wanted |= {"unroll_reductions_threshold": PARTS + 1, "realize_reads_threshold": 64}
    wanted |= {"realize_acc_reads_threshold": 64, "realize_opcount_threshold": 1000}
    return {name: value for name, value in wanted.items() if name in torch._inductor.list_options()}


def uncompiled(device):
    """A context in which all runs as it is: an evaluation on CUDA is not worth compiling units once more."""
    return nullcontext() if device.type == "cpu" else torch.compiler.set_stance("force_eager")


class Recorded:
    """The CUDA graph of one call of a step, made on the current stream; calling it takes an iteration there.

    Making it leaves the state of the run, and the random stream, as they were. What a replay draws it draws from the
    device's default stream, which moves on as in a plain step. Raises RuntimeError where the step cannot be recorded.
    """

    def __init__(self, step):
        self.graph = torch.cuda.CUDAGraph()  # a pool of its own
        stream, before = torch.cuda.current_stream(), Snapshot(step)
        try:
            for _ in range(WARM_UP):
                step()
                before.restore()
            stream.synchronize()
            gc.collect()
            with torch.cuda.graph(self.graph, stream=stream):
                step()
        finally:
            before.restore()

    def __call__(self):
        self.graph.replay()
