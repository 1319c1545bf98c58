"""A step recorded once as a CUDA graph and replayed: one launch an iteration in place of thousands.

The step is the same object as without: what it reads and writes stays at its address, so that a replay is an
iteration. Each recording has a memory pool of its own, so that several runs may replay at once, each on its stream.
"""

import gc
from contextlib import nullcontext

import torch
from torch import nn

from ..nets.shortcuts import Dropout
from ..nets.units import ResidualUnit

WARM_UP = 3  # iterations before recording, in which libraries choose algorithms and reserve what they need
REGIONS = 64  # compiled variants of a unit's forward that a process may hold: a handful for each kind of network


def faster(step, say):
    """The callable that takes the step's iterations the fastest way its device and network allow; same numbers a run.

    On a CPU the step itself. On CUDA its recording, of compiled units; where that fails, of units as they are; where
    that fails, or the network draws random numbers, the step itself. say(line): told why less than the best is done.
    Call it on the stream that the run trains on, with no other recording under way.
    """
    if step.device.type != "cuda":
        return step
    if any(isinstance(module, Dropout) for module in step.network.modules()):
        say("dropout draws anew each iteration from a stream that a CUDA graph would freeze: training step by step")
        return step
    for compiled in (True, False):
        compile_units(step.network, compiled)
        try:
            return Recorded(step)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # of the compiler, of the capture
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            way = "recording it uncompiled" if compiled else "training step by step"
            say(f"the step could not be {'compiled and ' if compiled else ''}recorded ({reason}): {way}")
    return step


def compile_units(network, compiled=True, **options):
    """Have each Residual Unit compiled by itself, or no longer.

    Units of one shape share one compiled graph, as long as nothing about a unit but its tensors tells it from others:
    the time to compile is that of the handful of kinds of units, whatever the depth. `options`: torch.compile's.
    """
    if compiled:
        limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
        setattr(torch._dynamo.config, limit, max(REGIONS, getattr(torch._dynamo.config, limit)))
    for module in network.modules():
        if isinstance(module, ResidualUnit):
            if compiled:
                nn.Module.compile(module, dynamic=False, **options)
            else:
                module._compiled_call_impl = None


def uncompiled(device):
    """A context in which units run as they are: an evaluation on CUDA is not worth compiling units once more."""
    return nullcontext() if device.type == "cpu" else torch.compiler.set_stance("force_eager")


class Recorded:
    """The CUDA graph of one call of a step, made on the current stream; calling it takes an iteration there.

    Making it leaves the state of the run as it was. Raises RuntimeError where the step cannot be recorded.
    """

    def __init__(self, step):
        self.step, self.graph = step, torch.cuda.CUDAGraph()  # a pool of its own
        stream = torch.cuda.current_stream()
        before = {name: tensor.clone() for name, tensor in step.tensors().items()}
        try:
            for _ in range(WARM_UP):
                step()
                self._restore(before)
            stream.synchronize()
            gc.collect()
            with torch.cuda.graph(self.graph, stream=stream):
                step()
        finally:
            self._restore(before)

    def _restore(self, before):
        for name, tensor in self.step.tensors().items():
            tensor.copy_(before[name])

    def __call__(self):
        self.graph.replay()
