"""What Inductor generates for CUDA, on a machine without a GPU: kernels counted, read and compiled to cubins.

python tests/iteration/cuda_codegen.py h200 bf16 '{"depth": 4, "widths": [16]}'
python tests/iteration/cuda_codegen.py count book/kernels/resnet-110.json h200 bf16 110    kernels of a whole iteration

An iteration of each net is taken on the CPU with its regions compiled by a back end that moves each graph to a
described device, keeps the code that Inductor writes for it, and runs the graph itself where it is. It prints one
JSON line for each graph that the net runs, `backward` or forward: the net and the region that it is of, how often it
runs in an iteration, its calls of Triton kernels and of convolutions, for each of its kernels the size of the cubin
that Triton's compiler and ptxas make of it, and how many block sizes a timing on the device may choose from for a
reduction at most (another order of a sum would be other bits). A last line for each net counts what is not compiled.

To count the kernels of a deep net, two shallow ones are taken: further units add alike.

It replaces what torch says of the device, and so runs in a process of its own (`generated`).
"""

import copy
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

DEVICES = {  # name -> compute capability, multiprocessors, memory in GiB
    "t4": ((7, 5), 40, 16),
    "a100": ((8, 0), 108, 40),
    "h200": ((9, 0), 132, 140),
}
BATCH = 128
UNITS = {  # nets of one unit: fields of a NetworkSpec, and the images' side
    "basic, 16 channels of 32x32": {"depth": 4, "widths": [16]},
    "basic, 32 channels of 16x16": {"depth": 4, "widths": [32], "side": 16},
    "basic, 64 channels of 8x8": {"depth": 4, "widths": [64], "side": 8},
    "basic, 16 channels of 32x32, full pre-activation": {"depth": 4, "widths": [16], "order": "full pre-activation"},
    "bottleneck, 64 channels of 32x32, with a projection": {"depth": 5, "widths": [16], "branch": "bottleneck"},
}
UNIT = "ResidualUnit.forward"
CAT = 128  # tensors that one launch of torch's cat takes on CUDA
COMPILED = "compiled"  # the profiler's name for what a compiled graph does


def generated(device, precision, *nets, timeout=1800):
    """The lines that this file prints as a command, as dicts: of these nets (fields of a NetworkSpec) on a device."""
    command = [sys.executable, __file__, device, precision, *map(json.dumps, nets)]
    with tempfile.TemporaryDirectory() as cache:
        fresh = {"TORCHINDUCTOR_CACHE_DIR": cache, "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
        fresh |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": cache}
        fresh |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        run = subprocess.run(command, env=os.environ | fresh, capture_output=True, text=True, timeout=timeout)
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}: {run.stderr[-4000:]}")
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def describe(name):
    """Have torch, Inductor and Triton find that device, and convolutions prefer channels_last as cuDNN does."""
    import torch
    import torch._dynamo.device_interface as interfaces
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    (major, minor), multiprocessors, memory = DEVICES[name]
    properties = SimpleNamespace(
        name=name,
        major=major,
        minor=minor,
        multi_processor_count=multiprocessors,
        total_memory=memory << 30,
        max_threads_per_multi_processor=2048 if major > 7 else 1024,
        max_threads_per_block=1024,
        regs_per_multiprocessor=65536,
        warp_size=32,
        shared_memory_per_block=48 << 10,
        shared_memory_per_block_optin=(64 if major == 7 else 160) << 10,
        shared_memory_per_multiprocessor=(64 if major == 7 else 160) << 10,
        L2_cache_size=(4 if major == 7 else 40) << 20,
        gcnArchName="",
    )

    def bf16(including_emulation=True):
        return major >= 8 or including_emulation

    answers = {
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (major, minor),
        "get_device_name": lambda device=None: name,
        "current_device": lambda: 0,
        "device_count": lambda: 1,
        "is_bf16_supported": bf16,
        "_lazy_init": lambda: None,
    }
    for attribute, answer in answers.items():
        setattr(torch.cuda, attribute, answer)
    answers |= {
        "is_available": lambda: True,
        "get_compute_capability": lambda device=None: 10 * major + minor,
        "is_triton_capable": lambda device=None: True,
        "raise_if_triton_unavailable": lambda device=None: None,
        "synchronize": lambda device=None: None,
        "get_raw_stream": lambda device=None: 0,
    }
    cuda = interfaces.CudaInterface
    for attribute, answer in answers.items():
        setattr(cuda, attribute, staticmethod(answer))
    worker = {key: staticmethod(answers[key]) for key in ("get_device_properties", "current_device")}
    for attribute, answer in worker.items():
        setattr(cuda.Worker, attribute, answer)
    target = GPUTarget("cuda", 10 * major + minor, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: target,
            get_current_device=lambda: 0,
            get_device_interface=lambda: torch.cuda,
            get_active_torch_device=lambda: torch.device("cuda", 0),
            get_current_stream=lambda device=None: 0,
            map_python_to_cpp_type=lambda kind: kind,
        )
    )
    torch._C._conv_determine_backend_memory_format = _conv_format
    return target


def _conv_format(images, weight, _):
    import torch

    def lies(tensor):
        return tensor.is_contiguous(memory_format=torch.channels_last)

    chosen = lies(images) and not images.is_contiguous() or lies(weight) and not weight.is_contiguous()
    return torch.channels_last if chosen or (lies(images) and lies(weight)) else torch.contiguous_format


class Kept(Exception):
    """Raised in place of loading a generated module, which would need the device."""


class Backend:
    """A back end of torch.compile that keeps in `graphs` what Inductor writes for CUDA.

    A graph is {"backward": whether it is one, "source": the module that is written, "runs": how often it has run}.
    """

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, inputs):
        from torch._inductor.compile_fx import compile_fx

        return compile_fx(graph, inputs, inner_compile=self._inner)

    def _inner(self, graph, inputs, **options):
        import torch
        from torch._inductor import compile_fx
        from torch._inductor.graph import GraphLowering

        from identity_mappings.iteration.capture import inductor_options

        def keep(lowering):
            code, _ = lowering.codegen()
            source = getattr(code, "value", code)
            self.graphs.append({"backward": bool(lowering.is_backward), "source": source, "runs": 0})
            raise Kept

        here = copy.deepcopy(graph)
        moved, placed = on_cuda(copy.deepcopy(graph), inputs)
        chosen = inductor_options()
        with mock.patch.object(GraphLowering, "_compile_to_module", keep), torch._inductor.config.patch(chosen):
            try:
                compile_fx.compile_fx_inner(moved, placed, **options)
            except Exception as error:
                if not _comes_of(error, Kept):
                    raise

        kept = self.graphs[-1]

        def run(arguments):
            values = list(arguments)
            if isinstance(arguments, list):
                arguments.clear()
            kept["runs"] += 1
            with torch.profiler.record_function(COMPILED):
                return here(*values)

        run._boxed_call = True
        return run


def _comes_of(error, kind):
    seen = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, kind):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def on_cuda(graph, inputs):
    """The graph and its example inputs, traced on the CPU, as if they had been traced on a CUDA device."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.utils import _pytree as pytree

    cuda, moved = torch.device("cuda", 0), {}
    values = [value for node in graph.graph.nodes for value in pytree.tree_leaves(node.meta.get("val"))]
    mode = next(value.fake_mode for value in values if isinstance(value, FakeTensor))

    def move(value):
        if isinstance(value, torch.device):
            return cuda
        if not isinstance(value, FakeTensor):
            return value
        if id(value) not in moved:
            elements = 1 + sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True))
            store = torch.empty(value.storage_offset() + elements, dtype=value.dtype, device="meta")
            like = store.as_strided(value.shape, value.stride(), value.storage_offset())
            moved[id(value)] = value, FakeTensor(mode, like, cuda)  # the first is kept, so that its id stays its own
        return moved[id(value)][1]

    with mode:
        for node in graph.graph.nodes:
            for key in {"val", "example_value"} & node.meta.keys():
                node.meta[key] = pytree.tree_map(move, node.meta[key])
            node.args, node.kwargs = (pytree.tree_map(move, each) for each in (node.args, node.kwargs))
        placed = [move(value) for value in inputs]
    graph.recompile()
    return graph, placed


def iterations(nets, precision, only=None):
    """For each net, (net, {region: its graphs, with their runs in one iteration}, calls outside of them by name).

    nets: fields of a NetworkSpec, and the images' "side". only: of all regions, the one to compile.
    """
    import numpy as np
    import torch

    from identity_mappings.data import Dataset
    from identity_mappings.data.batches import Images
    from identity_mappings.experiments.protocols import CIFAR
    from identity_mappings.iteration.capture import regions
    from identity_mappings.iteration.step import Step
    from identity_mappings.nets.networks import cifar_spec

    torch._dynamo.reset()
    backends = {}
    for net in nets:
        choices = {name: tuple(value) if isinstance(value, list) else value for name, value in net.items()}
        side = choices.pop("side", 32)
        # a loss that is no number would have Dynamo compile its sum once more, as for no run
        pixels = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3), dtype=np.uint8)
        labels = np.arange(BATCH) % 10
        images, _ = Images.pair(Dataset("toy", pixels, labels, pixels, labels, classes=10), "pixel", "cpu")
        step = Step(cifar_spec(**choices), images, CIFAR, 0, "cpu", precision)
        for owner, method in regions(step):
            region = f"{type(owner).__name__}.{method}"
            if only in (None, region):
                backend = backends.setdefault(region, Backend())
                setattr(owner, method, torch.compile(getattr(owner, method), dynamic=False, backend=backend))
        step.batches.bring(0)
        for _ in range(2):  # the first compiles
            graphs = {region: backend.graphs for region, backend in backends.items()}
            for graph in itertools.chain(*graphs.values()):
                graph["runs"] = 0
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                step()
        yield net, graphs, outside(profile.events())


# what torch calls that launches nothing: another look at a tensor, or memory alone
NOTHING = {"alias", "as_strided", "detach", "empty", "empty_like", "empty_strided", "expand", "lift_fresh", "narrow"}
NOTHING |= {"new_empty", "permute", "reshape", "result_type", "select", "slice", "split", "split_with_sizes", "t"}
NOTHING |= {"to", "transpose", "unsqueeze", "view", "_reshape_alias", "_unsafe_view", "resolve_conj", "resolve_neg"}


def outside(events):
    """{operation: how often torch called it outside of compiled graphs, and not as a part of another one}."""

    def name(event):
        return event.name.removeprefix("aten::")

    def counts(event):
        above = []
        while (event := event.cpu_parent) is not None:
            above.append(event)
        return not any(each.name == COMPILED or launches(each) for each in above)

    def launches(event):
        return event.name.startswith("aten::") and name(event) not in NOTHING

    return Counter(name(event) for event in events if launches(event) and counts(event))


def calls(source):
    """{"triton": calls of Triton kernels, "convolutions": of those, "others": lines that call other libraries}.

    Of a convolution's backward pass each gradient counts, that of its input and that of its weights.
    """
    body = source[source.index("def call") :]
    body = body[: body.index("\n        return (")].splitlines()
    outside = [
        line.strip() for line in body if "extern_kernels." in line or "torch.ops." in line and ".default(" in line
    ]
    return {
        "triton": sum(bool(re.search(r"\btriton_\w+\.run\(", line)) for line in body),
        "convolutions": sum(
            line.count("True") if "backward" in line else 1 for line in outside if "convolution" in line
        ),
        "others": [line for line in outside if "convolution" not in line],
    }


def kernels(source):
    """(name, source) of each Triton kernel of a generated module."""
    return re.findall(r"async_compile\.triton\('(\w+)', '''(.*?)''', device_str", source, re.S)


def cubin(name, source, target):
    """The cubin of a generated kernel as Inductor would first launch it on the device."""
    import importlib.util

    import triton

    path = Path(tempfile.mkdtemp()) / "kernel.py"
    path.write_text(source.replace("triton_helpers.set_driver_to_gpu()", ""))
    spec = importlib.util.spec_from_file_location("kernel", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    heuristic = getattr(module, name)  # a CachingAutotuner: Inductor's choices of block sizes for this kernel
    meta, config = heuristic.triton_meta, heuristic.configs[0]
    constants = config.kwargs | {key: value for key, value in meta["constants"].items() if isinstance(key, str)}
    built = triton.compile(
        triton.compiler.ASTSource(
            heuristic.fn,
            meta["signature"],
            constexprs={(heuristic.fn.arg_names.index(key),): value for key, value in constants.items()},
            attrs=meta["configs"][0],
        ),
        target=target,
        options={"num_warps": config.num_warps, "num_stages": config.num_stages},
    )
    return built.asm["cubin"], len(heuristic.configs)


def counted(depth, precision, only=None):
    """{"triton", "convolutions", "others"}: calls in one iteration of the CIFAR net of that depth.

    As if generated for the device that `describe` has described. Others are of other libraries, or of torch itself.
    """
    import torch

    from identity_mappings.nets.networks import BRANCHES, cifar_spec

    spec = cifar_spec(depth)
    step, more = BRANCHES[spec.branch][0] * len(spec.widths), spec.units[0] - 2
    nets = [{"depth": units * step + 2, "branch": spec.branch, "resize": spec.resize} for units in (2, 3)]
    two, three = (_summed(regions, others) for _, regions, others in iterations(nets, precision, only))
    found = {kind: two[kind] + more * (three[kind] - two[kind]) for kind in two}
    with torch.device("meta"):
        tensors = len(list(spec.build().parameters()))
    return found | {"others": found["others"] + tensors // CAT}  # to gather their gradients


def _summed(regions, others):
    # where the stem is not compiled: its output, and the gradient of its weights
    convolutions = others.pop("conv2d", 0) + others.pop("convolution_backward", 0)
    found = Counter(triton=0, convolutions=convolutions, others=sum(others.values()))
    for graph in itertools.chain(*regions.values()):
        made = calls(graph["source"])
        found["triton"] += graph["runs"] * made["triton"]
        found["convolutions"] += graph["runs"] * made["convolutions"]
        found["others"] += graph["runs"] * len(made["others"])
    return found


def count(path, device, precision, depth):
    """Write the `counted` kernels of a net, with its units alone compiled and with all regions, to a JSON file.

    And those of each of UNITS by Triton, forward and backward.
    """
    import torch

    describe(device)
    made = {"network": f"ResNet-{depth}", "device": device, "precision": precision, "torch": torch.__version__}
    ways = {"units": UNIT, "all": None}
    made["compiled"] = {way: counted(int(depth), precision, only) for way, only in ways.items()}
    made["units"] = {}
    for name, net in UNITS.items():
        ((_, regions, _),) = iterations([net], precision, UNIT)
        graphs = sorted(regions[UNIT], key=lambda graph: graph["backward"])
        made["units"][name] = [calls(graph["source"])["triton"] for graph in graphs if graph["runs"]]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(made, indent=1) + "\n")


def main(device, precision, *nets):
    target, built = describe(device), {}
    for net, regions, others in iterations(map(json.loads, nets), precision):
        for region, graph in ((region, graph) for region, graphs in regions.items() for graph in graphs):
            if not graph["runs"]:
                continue
            source = graph.pop("source")
            if source not in built:
                built[source] = {name: cubin(name, text, target) for name, text in kernels(source)}
            found = built[source]
            sizes = {name: len(binary) for name, (binary, _) in found.items()}
            reductions = [count for name, (_, count) in found.items() if not name.startswith("triton_poi")]
            line = {"net": net, "region": region} | graph | {"cubins": sizes, "choices": max(reductions, default=1)}
            graph["source"] = source
            print(json.dumps(line | calls(source)), flush=True)
        print(json.dumps({"net": net, "region": None, "outside": others}), flush=True)


if __name__ == "__main__":
    (count if sys.argv[1] == "count" else main)(*sys.argv[1 + (sys.argv[1] == "count") :])
