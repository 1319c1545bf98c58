"""One iteration against PyTorch's own parts put together, and as what a CUDA graph may record."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo import lookup_backend
from torch._guards import CompileContext
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from identity_mappings import cifar_resnet, shortcut
from identity_mappings.data import Dataset
from identity_mappings.data.batches import Images
from identity_mappings.experiments.protocols import CIFAR
from identity_mappings.iteration import capture
from identity_mappings.iteration.capture import compile_regions
from identity_mappings.iteration.step import Step
from identity_mappings.nets.networks import cifar_spec, initialise
from identity_mappings.nets.norm import BatchNorm2d, Grouped, RunningStatistics

PROTOCOL = replace(CIFAR, iterations=12, warmup=3, drops=(6, 9), batch=16, bn_group=8, pad=1)


def images():
    return images_on("cpu")


def images_on(device, size=8):
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (40, size, size, 3), dtype=np.uint8), np.arange(40) % 10
    return Images.pair(Dataset("toy", x, y, x, y, classes=10), "pixel", device)[0]


def step(depth=8, protocol=PROTOCOL, precision="fp32", **choices):
    return Step(cifar_spec(depth, **choices), images(), protocol, 0, "cpu", precision)


def take(a_step, iterations, begin=0):
    for iteration in range(begin, begin + iterations):
        a_step.batches.bring(iteration)
        a_step()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_iterations_are_those_of_a_plain_loop(precision):
    """backward(), torch.optim.SGD and BN that keeps its own running statistics, over both changes of the rate."""
    ours = step(precision=precision)
    take(ours, 8)
    network = initialise(cifar_spec(8).build(), torch.Generator().manual_seed(0))
    network = network.to(memory_format=torch.channels_last).train()
    for module in network.modules():
        if isinstance(module, BatchNorm2d):
            module.group = 8
    sgd = torch.optim.SGD(network.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-4, foreach=False)
    losses = []
    for iteration in range(8):
        ours.batches.bring(iteration)
        x, y = ours.batches.at(torch.tensor([iteration]))
        sgd.param_groups[0]["lr"] = PROTOCOL.rate(iteration)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = network(x)
        loss = F.cross_entropy(logits.float(), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    for (name, p), q in zip(network.named_parameters(), ours.network.parameters(), strict=True):
        assert torch.equal(p, q), name
    torch.testing.assert_close(float(ours.loss_sum), sum(losses), rtol=1e-12, atol=0)
    theirs = {name: buffer for name, buffer in network.named_buffers() if "running" in name}
    for name, buffer in ours.network.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer, theirs[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("group", [None, 4, 3])
def test_deferred_statistics_are_those_of_batch_norm(group):
    """float64 at 1e-12: outputs, gradients, and running statistics over several batches, the variance over n - 1."""
    ours, reference = BatchNorm2d(3, momentum=0.2).double(), nn.BatchNorm2d(3, momentum=0.2).double()
    others = nn.BatchNorm2d(3, momentum=0.0).double()
    ours.group = group
    statistics = RunningStatistics(nn.Sequential(ours), momentum=0.2)
    for module in (ours, reference, others):
        module.weight.data[:], module.bias.data[:] = torch.tensor([0.5, 1, 2]), torch.tensor([1.0, 0, -1])
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(8, 3, 2, 5, dtype=torch.float64, generator=generator) * torch.arange(1, 9)[:, None, None, None]
        x.requires_grad_()
        parts = x.split(group or 8)
        y = ours(x)
        expected = torch.cat([reference(parts[0]), *map(others, parts[1:])])
        direction = torch.randn(y.shape, dtype=torch.float64, generator=generator)
        slopes = [torch.autograd.grad(out, x, direction)[0] for out in (y, expected)]
        statistics.update()
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(*slopes, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.running_mean, reference.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.running_var, reference.running_var, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.eval()(x), reference.eval()(x), rtol=1e-12, atol=1e-12)


def test_statistics_kept_aside_are_no_part_of_the_weights():
    ours = BatchNorm2d(3)
    RunningStatistics(nn.Sequential(ours), momentum=0.1)
    assert ours.state_dict().keys() == nn.BatchNorm2d(3).state_dict().keys()


def test_a_repeated_pass_counts_once():
    ours = BatchNorm2d(3)
    statistics, x = RunningStatistics(nn.Sequential(ours), momentum=0.1), torch.randn(8, 3, 4, 4)
    ours(x), ours(x)
    statistics.update()
    torch.testing.assert_close(ours.running_mean, 0.1 * x.mean((0, 2, 3)))


GRAPHS = set()  # those that were compiled since it was emptied; one that Dynamo begins again is one


def counted(graph, inputs):
    """A back end that generates no code: PyTorch's own kernels. One for all nets, for Dynamo compares identities."""
    GRAPHS.add(CompileContext.current_compile_id())
    return lookup_backend("aot_eager")(graph, inputs)


@pytest.fixture
def forgotten():
    """Nothing is compiled before the test."""
    torch._dynamo.reset()
    GRAPHS.clear()


def compiled(depth=20, recompute=False, **choices):
    """A step whose regions are compiled as on CUDA, but to PyTorch's own kernels."""
    made = step(depth, **choices)
    made.network.recompute = recompute
    compile_regions(made, backend=counted)
    return made


def test_compiled_units_share_a_graph_for_each_kind(forgotten, precision="bf16"):
    """Nine units of five kinds, and six other regions: the kinds decide, not the depth; recomputation adds none."""
    plain = compiled(precision=precision)
    take(plain, 2)
    assert len(GRAPHS) == 5 + 6
    recomputed = compiled(precision=precision, recompute=True)
    take(recomputed, 2)
    assert len(GRAPHS) == 5 + 6
    for name, tensor in plain.tensors().items():
        assert torch.equal(recomputed.tensors()[name], tensor), name
    compile_regions(recomputed, compiled=False)
    take(recomputed, 1, begin=2)
    assert len(GRAPHS) == 5 + 6


@pytest.mark.parametrize("choices", [{}, {"branch": "bottleneck", "depth": 11, "resize": "projection"}], ids=str)
def test_compiled_units_train_as_plain_ones(forgotten, choices):
    """The compiler's way through batch normalisation, in a whole iteration in float32."""
    choices = {"depth": 8} | choices
    ours, plain = compiled(**choices), step(**choices)
    for each in (ours, plain):
        take(each, 1)
    for name, tensor in plain.tensors().items():
        torch.testing.assert_close(ours.tensors()[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_a_precision_does_not_take_the_graphs_of_another():
    """With bf16 compiled earlier in the process, the loss of bf16-skip-fp32 is what it is in a process of its own."""

    def loss(*precisions):
        torch._dynamo.reset()
        for precision in precisions:
            made = compiled(8, precision=precision, widths=(4,))
            take(made, 2)
        return made.loss_sum.item()

    assert loss("bf16", "bf16-skip-fp32") == loss("bf16-skip-fp32") != loss("bf16")


def test_more_kinds_of_units_than_may_be_compiled_are_no_secret(forgotten, monkeypatch):
    monkeypatch.setattr(capture, "VARIANTS", 2)
    made = compiled()
    # by Dynamo's own patch, which leaves the setting as it was
    with torch._dynamo.config.patch(recompile_limit=2), pytest.raises(Exception, match="(?i)limit"):
        take(made, 1)


@given(
    images=st.sampled_from([1, 2, 3, 5, 6, 8, 16]),  # those of 8 have their sums of a small signal in 8 parts
    groups=st.integers(1, 3),
    channels=st.integers(1, 5),
    side=st.integers(1, 6),
    offset=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_the_compilers_batch_norm_is_pytorchs(images, groups, channels, side, offset, seed):
    """float64 against nn.BatchNorm2d group by group: outputs, all gradients, the statistics; far from zero too."""
    generator = torch.Generator().manual_seed(seed)
    images = max(images, 2 if side == 1 else 1)  # PyTorch takes no variance of a single number

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x = (offset + random(images * groups, channels, side, side)).requires_grad_()
    weight, bias, slope = random(channels).requires_grad_(), random(channels).requires_grad_(), random(x.shape)
    y, mean, var = Grouped.apply(x, weight, bias, images, 1e-3)
    parts, means, variances = [], torch.zeros(groups, channels).double(), torch.zeros(groups, channels).double()
    for place, part in enumerate(x.split(images)):
        parts.append(F.batch_norm(part, means[place], variances[place], weight, bias, True, 1.0, 1e-3))
    expected = torch.cat(parts)
    slopes = [torch.autograd.grad(out, (x, weight, bias), slope) for out in (y, expected)]
    for ours, theirs in zip((y, mean, var, *slopes[0]), (expected, means, variances, *slopes[1]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_compilers_batch_norm_is_exact_in_float32():
    """Against float64, a signal whose mean is a hundred times its spread: within four times PyTorch's own error."""
    x = 100 + torch.randn(128, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    weight, bias = torch.ones(16), torch.zeros(16)
    exact = torch.cat([F.batch_norm(part, None, None, None, None, True) for part in x.double().split(64)])
    theirs = torch.cat([F.batch_norm(part, None, None, weight, bias, True) for part in x.split(64)])
    ours, _, _ = Grouped.apply(x, weight, bias, 64, 1e-5)
    assert (ours - exact).abs().max() < 4 * max((theirs - exact).abs().max(), 1e-6)


class Uncapturable(AssertionError):
    """An operation that a CUDA graph cannot record, or that makes the host wait for the device."""


class CaptureLint(TorchDispatchMode):
    """Refuses what cannot be recorded: values read back, shapes that depend on values, copies between host and device.

    On a CPU there is no other device: a copy to one is known by its naming a device and changing no type. What reads
    a CPU tensor's memory without any operation (`tolist`, `numpy`) cannot be seen here.
    """

    REFUSED = {
        "_local_scalar_dense": "the host would wait for a value",
        "equal": "the host would wait for a value",
        "is_nonzero": "the host would wait for a value",
        "nonzero": "its shape depends on values",
        "masked_select": "its shape depends on values",
        "_unique2": "its shape depends on values",
        "lift_fresh": "a copy from the host",
        "_pin_memory": "host memory",
        "record_stream": "another stream",
    }

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name, options = function.overloadpacket.__name__, options or {}
        reason = self.REFUSED.get(name)
        if name == "_to_copy" and options.get("device") and options.get("dtype") in (None, arguments[0].dtype):
            reason = "a copy between devices"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            types = {index.dtype for index in arguments[1] if index is not None}
            reason = "its shape depends on values" if types & {torch.bool, torch.uint8} else reason
        if reason:
            raise Uncapturable(f"{function}: {reason}")
        return function(*arguments, **options)


VARIETIES = [
    {},
    {"order": "full pre-activation", "depth": 11, "branch": "bottleneck"},
    {"shortcut": shortcut("exclusive gate", bias=-6)},
    {"shortcut": shortcut("scaled", a=0.5, b=0.5)},
    {"shortcut": shortcut("1x1 conv")},
    {"shortcut": shortcut("dropout", p=0.5)},
]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("choices", VARIETIES, ids=str)
def test_a_step_can_be_captured_and_keeps_its_addresses(choices, precision):
    ours = step(**{"depth": 8} | choices, precision=precision)

    def addresses():
        tensors = ours.tensors() | dict(ours.network.named_parameters()) | dict(ours.network.named_buffers())
        return {name: tensor.data_ptr() for name, tensor in tensors.items()}

    before = addresses()
    for iteration in range(4):  # over the end of an epoch
        ours.batches.bring(iteration)
        with CaptureLint():
            ours()
    assert addresses() == before
    assert ours.counter.item() == 4


class Reads(nn.Module):
    """Each of these in a network would break a capture."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def forward(self, x):
        self.action(x)
        return x


MUTATIONS = {
    "item": lambda x: x.sum().item(),
    "branch": lambda x: bool((x > 0).any()),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "copy": lambda x: x.to("cpu", copy=True),
    "from the host": lambda x: torch.tensor([1.0]),
    "counter as an index": lambda x: x[x.new_zeros((), dtype=torch.int64)],
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_lint_catches(name):
    ours = step()
    ours.network.tail.append(Reads(MUTATIONS[name]))
    ours.batches.bring(0)
    with pytest.raises(Uncapturable), CaptureLint():
        ours()


def test_a_network_trained_by_others_keeps_its_own_statistics():
    network = cifar_resnet(8, seed=0).train()
    network(torch.randn(4, 3, 8, 8))
    assert all(buffer.ne(0).all() for name, buffer in network.named_buffers() if name.endswith("running_mean"))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-skip-fp32"])
@pytest.mark.parametrize("choices", [*VARIETIES, {"depth": 32}], ids=str)
def test_recomputation_changes_no_bit(choices, precision):
    """Weights, velocity and running statistics after three iterations; dropout draws what it had drawn."""
    outcomes = []
    for recompute in (False, True):
        torch.manual_seed(0)
        made = Step(cifar_spec(**{"depth": 14} | choices), images(), PROTOCOL, 0, "cpu", precision, recompute)
        take(made, 3)
        outcomes.append(made.tensors())
    for name, tensor in outcomes[0].items():
        assert torch.equal(tensor, outcomes[1][name]), name


def test_recomputation_keeps_less():
    def kept(recompute):
        made, bytes_kept = Step(cifar_spec(56), images(), PROTOCOL, 0, "cpu", "fp32", recompute), []

        def keep(tensor):
            bytes_kept.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            made.network(torch.randn(16, 3, 8, 8))
        return sum(bytes_kept)

    assert kept(True) < kept(False) / 3


@pytest.mark.parametrize("order", ["original", "full pre-activation", "BN after addition"])
@pytest.mark.parametrize("choices", [{}, {"branch": "bottleneck", "depth": 11, "resize": "projection"}], ids=str)
@pytest.mark.parametrize("precision, dtype", [("bf16", torch.bfloat16), ("bf16-skip-fp32", torch.float32)])
def test_the_precision_of_the_signal_along_the_shortcuts(order, choices, precision, dtype):
    made, seen = step(order=order, precision=precision, **choices), []
    for unit in made.network.units:
        unit.shortcut.register_forward_hook(lambda module, inputs, y: seen.append((inputs[0].dtype, y.dtype)))
    take(made, 1)
    assert seen == [(dtype, dtype)] * 3


class Casts(TorchDispatchMode):
    """Counts the changes of type."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function.overloadpacket.__name__ == "_to_copy"
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_are_cast_together_at_any_depth(precision):
    counts = []
    for depth in (8, 14):
        made = step(depth, precision=precision)
        made.batches.bring(0)
        with Casts() as casts:
            made()
        counts.append(casts.count)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_has_its_own_weights_after_an_iteration(fails):
    made = step(precision="bf16")
    own = dict(made.network.named_parameters())
    made.network.units[1].register_forward_hook(lambda *_: 1 / 0 if fails else None)
    if fails:
        with pytest.raises(ZeroDivisionError):
            take(made, 1)
    else:
        take(made, 1)
    for name, parameter in made.network.named_parameters():
        assert parameter is own[name] and parameter.dtype == torch.float32
