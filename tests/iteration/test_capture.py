"""Which way iterations are taken on a CUDA device, and what is said, kept and done when one fails.

None of this needs a device: what a device would do is stood in for. What only a device shows is in test_cuda.py.
"""

import os
import re
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from _pytest.mark.expression import Expression
from conftest import small_run
from test_step import step, take

from identity_mappings import UsageError, environment
from identity_mappings.experiments.protocols import CIFAR, Recipe
from identity_mappings.hardware import resolve_device
from identity_mappings.iteration import capture, check, memory
from identity_mappings.iteration.capture import COMPILED, PLAIN, RECORDED
from identity_mappings.nets.networks import cifar_spec
from identity_mappings.nets.norm import Grouped
from identity_mappings.nets.shortcuts import shortcut
from identity_mappings.training import checkpoint, loop, many, train
from identity_mappings.training import state as training_state
from identity_mappings.training.loop import How


def on_cuda(**choices):
    """A step as if on a CUDA device, as far as `faster` asks."""
    made = step(**choices)
    made.device = torch.device("cuda")
    return made


def failing(*names):
    """A stand-in for `recorded` in which these ways fail; compiling asks what an unsupported Python would refuse."""

    def recorded(step, name):
        if name in names:
            raise RuntimeError(f"no {name} here\nand more")
        return capture.Way(step, name, {"loss": 0.0})

    return recorded


@pytest.mark.parametrize(
    "fails, choices, begin, expected, said",
    [
        ((), {}, COMPILED, COMPILED, []),
        ((COMPILED,), {}, COMPILED, RECORDED, [COMPILED]),
        ((COMPILED, RECORDED), {}, COMPILED, PLAIN, [COMPILED, RECORDED]),
        ((), {}, RECORDED, RECORDED, []),
        ((), {}, PLAIN, PLAIN, []),
        ((), {"shortcut": shortcut("dropout", p=0.5)}, COMPILED, RECORDED, []),
    ],
)
def test_the_next_simpler_way_is_taken_and_said(monkeypatch, fails, choices, begin, expected, said):
    monkeypatch.setattr(capture, "recorded", failing(*fails))
    lines = []
    assert capture.faster(on_cuda(**choices), lines.append, begin).name == expected
    assert [line for line, name in zip(lines, said, strict=True) if f"(no {name} here)" in line] == lines


def test_a_python_that_cannot_compile_is_no_end(monkeypatch):
    def refuses(*_, compiled=True, **__):
        if compiled:
            raise RuntimeError("Dynamo is not supported on this Python")

    monkeypatch.setattr(capture, "compile_regions", refuses)
    monkeypatch.setattr(capture, "Recorded", lambda step: 1 / 0)
    lines = []
    assert capture.faster(on_cuda(), lines.append).name == PLAIN
    assert len(lines) == 2 and "Dynamo is not supported" in lines[0]


def test_running_out_of_memory_is_not_a_slower_way(monkeypatch):
    def short(step, name):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(capture, "recorded", short)
    with pytest.raises(torch.OutOfMemoryError):
        capture.faster(on_cuda(), pytest.fail)


def ready(**choices):
    made = step(**choices)
    take(made, 2)
    made.batches.bring(2)
    return made


@pytest.mark.parametrize("choices", [{}, {"shortcut": shortcut("dropout", p=0.5)}, {"precision": "bf16"}], ids=str)
def test_the_step_agrees_with_itself_and_is_left_as_it_was(choices):
    made = ready(**choices)
    before, random = {name: tensor.clone() for name, tensor in made.tensors().items()}, torch.get_rng_state()
    assert check.checked(made, made) == dict.fromkeys(check.TOLERANCES["fp32"], 0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.tensors().items())
    assert torch.equal(torch.get_rng_state(), random)


WRONG = {
    "loss": lambda made: made.loss_sum.mul_(1.01),
    "velocity": lambda made: made.sgd.velocity.mul_(1.1),
    "statistics": lambda made: made.statistics.batch.mul_(1.01),
    "statistics ": lambda made: made.statistics.running.mul_(1.01),
    "goes on to iteration": lambda made: made.counter.add_(1),
    "velocity ": lambda made: made.sgd.velocity.fill_(float("nan")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_replay_that_does_something_else_is_found_out(name):
    made = ready()
    before = {key: tensor.clone() for key, tensor in made.tensors().items()}

    def wrong():
        made()
        WRONG[name](made)

    with pytest.raises(check.Disagreement, match=name.strip()):
        check.checked(made, wrong)
    assert all(torch.equal(tensor, before[key]) for key, tensor in made.tensors().items())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("wrong", ["weights", "velocity"])
def test_an_update_that_does_something_else_is_found_out(monkeypatch, precision, wrong):
    """Of weights alone, too, which a replay's velocity does not show."""
    made, compiled = ready(precision=precision), [True]
    real = made.sgd.update

    @contextmanager
    def plainly():
        compiled[0] = False
        yield
        compiled[0] = True

    def update(*arguments):
        finite = real(*arguments)
        if compiled[0]:
            getattr(made.sgd, wrong).mul_(1.01)
        return finite

    monkeypatch.setattr(made.sgd, "update", update)
    with pytest.raises(check.Disagreement, match="update is"):
        check.checked(made, plainly_taking(made, plainly), plainly)


def plainly_taking(step, plainly):
    """A way that is the plain step itself."""

    def take():
        with plainly():
            step()

    return take


@contextmanager
def without_compiler():
    """In it `torch.compiler.is_compiling` says no; out of it, in the test below, it says yes."""
    before, torch.compiler.is_compiling = torch.compiler.is_compiling, lambda: False
    try:
        yield
    finally:
        torch.compiler.is_compiling = before


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_each_kind_of_unit_is_compared_alone(monkeypatch, precision, wrong):
    """The compiler's BN against PyTorch's; and one whose gradient is wrong, which loss and statistics do not show."""
    made = ready(depth=14, precision=precision)
    if wrong:
        real = Grouped.backward

        def backward(ctx, slope, *rest):
            gradient, *others = real(ctx, slope, *rest)
            return gradient + 0.2 * slope, *others

        monkeypatch.setattr(Grouped, "backward", staticmethod(backward))
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    if wrong:
        with pytest.raises(check.Disagreement, match="unit is"):
            check.checked(made, made, without_compiler)
    else:
        found = check.checked(made, made, without_compiler)
        assert 0 < found["unit"] < check.TOLERANCES[precision]["unit"] / 2


def test_replays_that_differ_from_each_other_are_found_out():
    made, times = ready(), []

    def drifts():
        made()
        times.append(made.sgd.weights[:1].add_(1e-6 * len(times)))

    with pytest.raises(check.Disagreement, match="two replays of one iteration differ in weights"):
        check.checked(made, drifts)


def test_a_finished_run_is_not_sped_up(begun, monkeypatch):
    """A checkpoint may be of the last iteration, after which there is no rate to look up."""
    monkeypatch.setattr(training_state, "faster", pytest.fail)
    state = begun(iterations=2)
    for _ in range(2):
        state.step()
    state.speed_up(pytest.fail)


CARD = {"gpu": "a card", "capability": "9.0", "driver": "1", "cuda": "2", "cudnn": "3", "torch": "4"}


def in_environment(monkeypatch, **changes):
    monkeypatch.setattr(environment, "of", lambda device, way: CARD | {"way": way} | changes)


def test_a_change_of_the_environment_is_said_and_kept(tmp_path, monkeypatch):
    run, lines = small_run(1, "original", iterations=12), []

    def parts(iterations):
        left = iter([False] * (iterations - 1) + [True])
        return train(run, lines.append, lambda: next(left, False), results=tmp_path, threads=1)

    in_environment(monkeypatch)
    assert parts(3) is None and parts(3) is None
    assert [event for event in lines if event["kind"] == "note"] == []
    in_environment(monkeypatch, driver="5", gpu="another")
    record = parts(100)
    (note,) = [event["line"] for event in lines if event["kind"] == "note"]
    assert "gpu a card before, another now, driver 1 before, 5 now" in note
    assert [(each["iteration"], each["gpu"], each["way"]) for each in record["environments"]] == [
        (0, "a card", PLAIN),
        (6, "another", PLAIN),
    ]


def test_a_resumed_run_begins_with_the_way_it_had(tmp_path, monkeypatch):
    run, asked = small_run(1, "original", iterations=6), []

    def faster(step, say, begin):
        asked.append(begin)
        return capture.Way(step, RECORDED)

    monkeypatch.setattr(training_state, "faster", faster)
    in_environment(monkeypatch)
    left = iter([False, True])
    train(run, should_stop=lambda: next(left), results=tmp_path, threads=1)
    train(run, results=tmp_path, threads=1)
    assert asked == [COMPILED, RECORDED]


def test_a_cpu_run_keeps_no_environment(tmp_path):
    run, left = small_run(1, "original", iterations=4), iter([False, True])
    train(run, should_stop=lambda: next(left), results=tmp_path, threads=1)
    assert checkpoint.read(run, "fp32", "cpu", tmp_path)["environments"] == []
    assert "environments" not in train(run, results=tmp_path, threads=1)


def breaks(monkeypatch, broken, error):
    """Have these runs fail after two iterations."""
    real = many.training

    def training(run, *arguments):
        for place, _ in enumerate(iterations := real(run, *arguments)):
            if run in broken and place == 2:
                iterations.close()
                raise error
            yield
        return loop.records.read(run, arguments[0].results)

    monkeypatch.setattr(many, "training", training)


def test_an_error_of_one_run_is_its_own(tmp_path, monkeypatch):
    good, bad = small_run(1, "original", iterations=5), small_run(1, "original", iterations=5, seed=1)
    breaks(monkeypatch, {bad}, RuntimeError("cuDNN error: no engine\nmore"))
    outcomes = many.Together([bad, good], How(threads=1, results=tmp_path), loop.nothing, loop.never).outcomes
    assert outcomes[good]["status"] == "finished"
    assert isinstance(outcomes[bad], UsageError) and "stopped by RuntimeError (cuDNN error: no engine)" in str(
        outcomes[bad]
    )


def test_runs_on_a_lost_device_go_on_in_another_process(tmp_path, monkeypatch):
    runs, asked = [small_run(1, "original", iterations=5, seed=seed) for seed in range(3)], []
    breaks(monkeypatch, {runs[1]}, RuntimeError("CUDA error: misaligned address"))
    monkeypatch.setattr(many.environment, "alive", lambda device: False)
    monkeypatch.setattr(many.environment, "suits", lambda *_: None)
    together = many.Together(runs, How(threads=1, results=tmp_path), (lines := []).append, loop.never, most=2)
    assert together.outcomes == {} and set(together.left) == set(runs)
    assert "lost the device" in lines[-1]["line"]

    class Lost:
        def __init__(self, *_):
            self.outcomes, self.left = {runs[0]: {"a": "record"}}, runs[1:]

    def elsewhere(waiting, processes, how, *_):
        asked.append((waiting, processes, how.way))
        return dict.fromkeys(waiting, "trained")

    monkeypatch.setattr(many, "Together", Lost)
    monkeypatch.setattr(many, "_in_processes", elsewhere)
    outcomes = many.train_all(runs, device="cuda", results=tmp_path)
    assert asked == [(runs[1:], 1, PLAIN)] and list(outcomes.values())[1:] == ["trained"] * 2


def test_a_lone_run_out_of_memory_computes_activations_twice(tmp_path, monkeypatch):
    run, lines, real = small_run(1, "original", iterations=4), [], many.training

    def short(each, how, *rest):
        if not how.recompute:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (yield from real(each, how, *rest))

    monkeypatch.setattr(many, "training", short)
    outcomes = many.Together([run], How(threads=1, results=tmp_path), lines.append, loop.never).outcomes
    assert outcomes[run]["status"] == "finished"
    assert "activations computed twice" in [event["line"] for event in lines if event["kind"] == "note"][0]


@pytest.mark.parametrize("multiprocessors, runs", [(14, 1), (40, 2), (82, 4), (108, 5), (132, 5)])
def test_the_size_of_a_device_decides_how_many_runs_it_takes(monkeypatch, multiprocessors, runs):
    properties = SimpleNamespace(multi_processor_count=multiprocessors)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert memory.side_by_side("cuda") == runs


def test_what_recordings_hold_is_not_free(monkeypatch):
    given_back = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: given_back.append(True))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: 1000)
    assert memory.free("cuda") == 5 and given_back


def test_an_evaluation_fits_beside_the_runs():
    """Five signals of the widest layer in half a GiB, and in few batches: 16 or 64 channels at 32 x 32."""
    small, wide = (memory.evaluated_at_once(cifar_spec(depth), (32, 32), "bf16") for depth in (110, 164))
    assert small == 2**29 // (5 * 16 * 1024 * 2) == 4 * wide
    assert memory.evaluated_at_once(cifar_spec(110), (32, 32), "bf16-skip-fp32") == small // 2


@pytest.mark.parametrize(
    "precision, refused", [("bf16", True), ("bf16-skip-fp32", True), ("fp16", False), ("fp32", False)]
)
def test_bf16_is_refused_where_it_would_be_a_loop_over_images(monkeypatch, precision, refused):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    if refused:
        with pytest.raises(
            UsageError, match=f"precision {precision} needs .* 8.0 or higher; got Tesla T4, 7.5: use .*fp16"
        ):
            environment.suits(precision, "cuda")
    else:
        environment.suits(precision, "cuda")
    environment.suits(precision, "cpu")


def test_what_cuda_reads_at_its_start_is_there_before_it_is_asked(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS", raising=False)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen.append(dict(os.environ)) or False)
    resolve_device("auto")
    assert (seen[0]["CUDA_DEVICE_MAX_CONNECTIONS"], seen[0]["CUBLAS_WORKSPACE_CONFIG"]) == ("32", ":4096:8")


def test_a_recipe_is_recomputed_where_it_is_asked_for(begun):
    state = begun()
    made = training_state.State(state.recipe, 0, "cpu", "fp32", recompute=True)
    assert made.network.recompute and not state.network.recompute
    assert isinstance(made.recipe, Recipe) and made.protocol.batch == CIFAR.batch


def selects(expression, case):
    """Whether pytest's -k takes a case by that expression."""
    return Expression.compile(expression).evaluate(lambda word, **_: word in case)


def test_the_pages_slices_run_each_gpu_test_once():
    """The commands of the trainer page with -k, which are to fit into a borrowed device's ten minutes each."""
    here = Path(__file__).parent
    page, source = (here.parents[1] / "book" / "trainer.md").read_text(), (here / "test_cuda.py").read_text()
    slices = re.findall(r'test_cuda\.py -m cuda -k "(.+?)"', page)
    assert len(slices) == 4
    for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE):
        for case in (f"{name}[fp32]", f"{name}[bf16]"):
            chosen = [each for each in slices if selects(each, case)]
            assert len(chosen) == 1, (case, chosen)
