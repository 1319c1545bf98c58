"""fp16 with a scaled loss against float32 and against torch.amp, and the slots of the flat buffers."""

from dataclasses import replace

import pytest
import torch
from conftest import at
from hypothesis import given, settings
from hypothesis import strategies as st
from test_step import PROTOCOL, step, take
from torch import nn

from identity_mappings.experiments.protocols import CIFAR
from identity_mappings.iteration import scale
from identity_mappings.iteration.scale import LossScale
from identity_mappings.iteration.sgd import SGD
from identity_mappings.iteration.step import PRECISIONS, memory_format
from identity_mappings.nets.slots import Slots, joined


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_only_float32_on_cuda_lies_in_nchw(device, precision):
    nchw = (device, precision) == ("cuda", "fp32")
    expected = torch.contiguous_format if nchw else torch.channels_last
    assert memory_format(torch.device(device), precision) == expected
    if device == "cpu":
        made = step(precision=precision)
        assert made.memory_format == expected and all(
            p.is_contiguous(memory_format=expected) for p in made.network.parameters() if p.ndim == 4
        )


def test_fp16_trains_as_float32():
    """Four iterations: the losses within two parts in a thousand, the weights within a tenth of their change."""
    half, full = step(precision="fp16"), step()
    begin = full.sgd.weights.clone()
    for each in (half, full):
        take(each, 4)
    torch.testing.assert_close(half.loss_sum, full.loss_sum, rtol=2e-3, atol=0)
    moved = (full.sgd.weights - begin).norm()
    assert (half.sgd.weights - full.sgd.weights).norm() < 0.1 * moved
    torch.testing.assert_close(half.statistics.running, full.statistics.running, rtol=2e-2, atol=2e-3)


def test_an_overflow_changes_nothing_but_the_scale():
    made = step(precision="fp16")
    take(made, 1)
    before = {name: tensor.clone() for name, tensor in made.tensors().items()}
    made.scale.scale.fill_(2.0**120)
    take(made, 1, begin=1)
    for name in ("weights", "velocity", "running"):
        assert torch.equal(made.tensors()[name], before[name]), name
    assert made.scale.scale.item() == 2.0**119 and made.scale.fine.item() == 0 and made.counter.item() == 2
    made.scale.scale.fill_(2.0**10)
    take(made, 1, begin=2)
    assert not torch.equal(made.sgd.weights, before["weights"]) and made.scale.fine.item() == 1


@given(overflows=st.lists(st.booleans(), min_size=1, max_size=30), every=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_the_scale_moves_as_torch_amps(overflows, every):
    theirs = torch.amp.GradScaler("cpu", growth_interval=every)
    ours, layer = LossScale("cpu"), nn.Linear(1, 1, bias=False)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale, "EVERY", every)
        for overflow in overflows:
            slope = float("inf") if overflow else 1.0
            theirs.scale(torch.tensor(1.0))  # it is made when it is first used
            layer.weight.grad = torch.full_like(layer.weight, slope)
            theirs.step(sgd)
            theirs.update()
            finite = ours.unscaled(torch.full((3,), slope))
            assert finite.item() is not overflow
            assert ours.scale.item() == theirs.get_scale()


@pytest.mark.parametrize("widths", [(1, 2, 3), (5, 6, 7), (8, 9, 10), (16, 32, 64)])
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_slot_begins_at_16_bytes(widths, classes, precision):
    """Kernels compiled for a net of 100 classes read vectors of 16 bytes, and run in a net of 10 classes as well."""
    made = step(precision=precision, widths=widths, classes=classes, protocol=replace(PROTOCOL, decay_bn=False))
    tensors = dict(made.network.named_parameters()) | {str(i): copy for i, copy in enumerate(made.copies.leaves)}
    for name, buffer in made.network.named_buffers():
        if "running" in name or "batch_mean" in name or "batch_var" in name:
            tensors[name] = buffer
    bases = [made.sgd.weights, made.statistics.running, made.statistics.batch, getattr(made.copies, "buffer", None)]
    starts = [base.data_ptr() for base in bases if base is not None]
    stores = {base.untyped_storage().data_ptr() for base in bases if base is not None}
    for name, tensor in tensors.items():
        assert tensor.untyped_storage().data_ptr() in stores, name
        offset = tensor.data_ptr() - max(start for start in starts if start <= tensor.data_ptr())
        assert offset % 16 == 0, (name, offset)


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_slots_hold_what_is_put_in_them_and_zero_between(sizes):
    values = [torch.arange(1, size + 1) + 100.0 * place for place, size in enumerate(sizes)]
    slots, buffer = Slots(sizes), joined(values)
    assert len(buffer) == len(slots) and all(map(torch.equal, slots.split(buffer), values))
    assert torch.equal(slots.packed(buffer), torch.cat(values))
    other = torch.zeros_like(buffer)
    slots.fill(other, torch.cat(values))
    assert torch.equal(other, buffer) and buffer.count_nonzero() == sum(sizes)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("changes", [{}, {"decay_bn": False}])
def test_a_checkpoint_has_no_gaps_and_one_order_of_convs(begun, last, changes):
    """Layout 3: parameters as SGD orders them, convs in channels_last order, one after the other, wherever they lie."""
    state = begun(**changes)
    network, protocol = state.network, replace(CIFAR, **changes)
    plain = [p.detach().clone() for p in network.parameters()]
    sgd = SGD(network.to(memory_format=torch.channels_last if last else torch.contiguous_format), protocol)
    assert sgd.last == last and all(map(torch.equal, network.parameters(), plain))
    lines = [p.permute(0, 2, 3, 1).flatten() if p.ndim == 4 else p.flatten() for p in sgd.parameters]
    packed = sgd.packed(sgd.weights)
    assert torch.equal(packed, torch.cat(lines)) and len(packed) == sum(p.numel() for p in plain)
    sgd.weights.zero_()
    sgd.fill(sgd.weights, packed)
    assert all(map(torch.equal, network.parameters(), plain))


def test_gaps_stay_empty_and_a_checkpoint_goes_on_bit_for_bit(begun):
    """Widths of 2, 3 and 4 leave gaps after nearly every parameter."""
    state, resumed = begun(iterations=6), begun(iterations=6)
    for _ in range(3):
        state.step()
    resumed.load_dict(state.to_dict())
    at(resumed, 3)
    for each in (state, resumed):
        for _ in range(3):
            each.step()
    for name, tensor in state.on_device.tensors().items():
        assert torch.equal(resumed.on_device.tensors()[name], tensor), name
    filled = torch.zeros_like(state.on_device.sgd.weights)
    state.on_device.sgd.fill(filled, torch.ones(sum(p.numel() for p in state.network.parameters())))
    assert state.on_device.sgd.velocity[filled == 0].eq(0).all() and filled.eq(0).any()
