"""What only a CUDA device can show: a replay is an iteration, runs at once end as alone, a stop and a resume likewise.

Bit for bit, with the settings of `be_exact`. The trainer page has the commands that run them in slices of ten minutes.
"""

import time

import pytest
import torch
from conftest import small_run
from test_step import PROTOCOL, VARIETIES, images_on

from identity_mappings.experiments.protocols import CIFAR
from identity_mappings.hardware import be_exact
from identity_mappings.iteration import capture
from identity_mappings.iteration.step import Step
from identity_mappings.machines import bench, doctor
from identity_mappings.nets.networks import cifar_spec
from identity_mappings.results import records
from identity_mappings.training import many, train
from identity_mappings.training.loop import How, never, nothing, stream

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def made(choices, precision="fp32", recompute=False):
    be_exact("cuda")
    spec = cifar_spec(**{"depth": 8} | choices)
    return Step(spec, images_on("cuda"), PROTOCOL, 0, "cuda", precision, recompute)


def iterations(step, take, count=8):
    """The state after `count` iterations over both changes of the rate."""
    torch.manual_seed(0)  # for dropout
    for iteration in range(count):
        step.batches.bring(iteration)
        take()
    torch.cuda.synchronize()
    return {name: tensor.clone() for name, tensor in step.tensors().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-skip-fp32", "fp16"])
@pytest.mark.parametrize("choices", VARIETIES, ids=str)
def test_a_replay_is_an_eager_iteration_bit_for_bit(choices, precision):
    with stream("cuda"):
        eager = made(choices, precision)
        expected = iterations(eager, eager)
        step = made(choices, precision)
        step.batches.bring(0)
        got = iterations(step, capture.Recorded(step))
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize("recompute", [False, True])
def test_the_fast_way_compiles_and_records_and_is_close_to_eager(recompute):
    lines = []
    with stream("cuda"):
        eager, step = made({"depth": 14}), made({"depth": 14}, recompute=recompute)
        expected = iterations(eager, eager, 1)
        step.batches.bring(0)
        way = capture.faster(step, lines.append)
        assert lines == [] and way.name == capture.COMPILED and isinstance(way.take, capture.Recorded)
        assert step.counter.item() == 0 and step.statistics.running[:16].eq(0).all()  # the warm-up left no trace
        got = iterations(step, way.take, 1)
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_dropout_is_recorded_and_not_compiled():
    lines = []
    with stream("cuda"):
        step = made(VARIETIES[-1])
        step.batches.bring(0)
        assert capture.faster(step, lines.append).name == capture.RECORDED and lines == []


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_net_of_10_classes_runs_the_kernels_of_one_of_100(precision):
    """Compiled first for 100 classes; misaligned parameters would end the process's use of the device."""
    for classes in (100, 10):
        with stream("cuda"):
            step = made({"classes": classes}, precision)
            step.batches.bring(0)
            assert capture.faster(step, pytest.fail).name == capture.COMPILED
            iterations(step, step, 2)


def test_a_run_resumed_at_its_last_iteration_ends(tmp_path, monkeypatch):
    run = small_run(1, "original", iterations=5)
    assert train(run, should_stop=iter([False] * 4 + [True]).__next__, device="cuda", results=tmp_path) is None
    assert train(run, device="cuda", results=tmp_path)["status"] == "finished"


def test_a_record_says_how_its_iterations_were_taken(tmp_path):
    record = train(small_run(1, "original", iterations=5), device="cuda", results=tmp_path)
    (environment,) = record["environments"]
    assert environment["way"] == capture.COMPILED and environment["agreement"]["velocity"] < 0.02
    assert environment["gpu"] == record["device"] and environment["cudnn"] and environment["driver"]


def test_the_doctor_finds_three_ways():
    found, trouble = doctor.examine("cuda", seconds=0.5)
    assert trouble is None and [name for name, way in found["ways"].items() if "failed" in way] == []


@pytest.mark.parametrize("depth, most", [(110, 1100), (164, 2000)])
def test_kernels_of_an_iteration(depth, most):
    """As the trainer page predicts them, with some room, from the generated code and the convolutions' count."""
    with stream("cuda"):
        step = Step(cifar_spec(depth), images_on("cuda", size=32), CIFAR, 0, "cuda", "bf16")
        step.batches.bring(0)
        take = capture.faster(step, pytest.fail).take
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            take()
            torch.cuda.synchronize()
    kernels = sum(event.count for event in profile.key_averages() if event.device_type.name == "CUDA")
    print(f"ResNet-{depth}: {kernels} kernels an iteration")
    assert 300 < kernels < most


def test_runs_at_once_end_as_each_alone(tmp_path):
    runs = [small_run(1, "original", iterations=40, seed=seed) for seed in (0, 1)]
    runs += [small_run(2, "164-full-pre-activation", 11, iterations=40), small_run(1, "dropout")]
    outcomes = many.Together(runs, How("cuda", results=tmp_path / "many"), nothing, never).outcomes
    for run in runs:
        alone = train(run, device="cuda", results=tmp_path / "alone")
        assert records.numbers(outcomes[run]) == records.numbers(alone), run.name


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path):
    run, left = small_run(1, "original", iterations=40), iter([False] * 12 + [True])
    assert train(run, device="cuda", results=tmp_path / "parts", should_stop=lambda: next(left)) is None
    resumed = train(run, device="cuda", results=tmp_path / "parts")
    whole = train(run, device="cuda", results=tmp_path / "whole")
    assert records.numbers(resumed) == records.numbers(whole)


def test_resnet_1001_fits_16_gigabytes_in_bf16():
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    case = bench.Case(1001, 16, 32, 128)
    ours = bench.Ours(case, "cuda", "bf16")
    ours()
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_reserved() < 15.5 * 2**30


def test_compile_and_capture_take_no_longer_in_a_deeper_net():
    """Three minutes cold for any net; here one of 54 units after one of 9, whose kinds of units it shares."""
    taken = []
    for depth in (20, 110):
        with stream("cuda"):
            step = made({"depth": depth})
            step.batches.bring(0)
            begin = time.perf_counter()
            assert capture.faster(step, pytest.fail).name == capture.COMPILED
            taken.append(time.perf_counter() - begin)
    assert taken[0] < 180 and taken[1] < 60
