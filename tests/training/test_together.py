"""Runs in one process, an iteration in turn: the numbers of each alone, and what happens when memory is short.

On a CPU the turns are the same as on a CUDA device; its streams and recordings are in test_cuda.py.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import small_run

from identity_mappings import UsageError
from identity_mappings.experiments.protocols import CIFAR, Recipe
from identity_mappings.iteration import memory
from identity_mappings.nets.networks import cifar_spec
from identity_mappings.results import records
from identity_mappings.training import checkpoint, loop, many, train
from identity_mappings.training.loop import How


def alone(run, results):
    return records.numbers(train(run, results=results, threads=1))


def together(runs, results, **choices):
    return many.Together(runs, How(threads=1, results=results), loop.nothing, **{"should_stop": loop.never} | choices)


def order_of_iterations(monkeypatch):
    """A list that is filled, as runs train, with (seed, depth) of each iteration's run."""
    taken, step = [], many.training.__globals__["State"].step

    def noted(state):
        taken.append((state.seed, state.recipe.network.depth))
        step(state)

    monkeypatch.setattr(many.training.__globals__["State"], "step", noted)
    return taken


def test_runs_in_turn_end_with_the_numbers_of_each_alone(tmp_path, monkeypatch):
    runs = [small_run(1, "original", seed=seed) for seed in (0, 1)]
    runs += [small_run(2, "164-full-pre-activation", 11), small_run(1, "dropout"), small_run(1, "dropout", seed=1)]
    taken = order_of_iterations(monkeypatch)
    outcomes = together(runs, tmp_path / "many").outcomes
    monkeypatch.undo()
    assert set(taken[:9:3]) == {(0, 8)} and len(set(taken[:9])) == 3  # the first three take turns
    assert set(outcomes) == set(runs)
    for run in runs:
        assert records.numbers(outcomes[run]) == alone(run, tmp_path / "alone"), run.name


def test_dropout_trains_alone(tmp_path, monkeypatch):
    runs = [small_run(1, "dropout", iterations=3, seed=seed) for seed in (0, 1)]
    runs.insert(1, small_run(1, "original", iterations=3, seed=2))
    taken = order_of_iterations(monkeypatch)
    together(runs, tmp_path)
    assert [seed for seed, _ in taken] == [0] * 3 + [2] * 3 + [1] * 3


@pytest.mark.parametrize("gigabytes, at_once", [(0.5, 1), (1.2, 3)])
def test_free_memory_decides_how_many(tmp_path, monkeypatch, gigabytes, at_once):
    """Each of these small runs is estimated at little more than the fixed share of 1 GiB."""
    runs = [small_run(1, "original", iterations=4, seed=seed) for seed in range(3)]
    taken = order_of_iterations(monkeypatch)
    together(runs, tmp_path, free=lambda device: gigabytes * 2**30)
    assert len({seed for seed, _ in taken[:3]}) == at_once


def test_out_of_memory_falls_back_to_fewer(tmp_path, monkeypatch):
    runs = [small_run(1, "original", iterations=6, seed=seed) for seed in range(4)]
    lines, under_way, real = [], [0], many.training

    def short(*arguments, **options):
        """A device on which a third run at once is one too many."""
        under_way[0] += 1
        try:
            if under_way[0] > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return (yield from real(*arguments, **options))
        finally:
            under_way[0] -= 1

    monkeypatch.setattr(many, "training", short)
    trained = many.Together(runs, How(threads=1, results=tmp_path / "many"), lines.append, loop.never)
    monkeypatch.undo()
    assert trained.most == 2
    notes = [event["line"] for event in lines if event["kind"] == "note"]
    assert notes == [f"{runs[2].name}: out of memory; from here on no more than 2 at once"]
    for run in runs:
        assert records.numbers(trained.outcomes[run]) == alone(run, tmp_path / "alone")


def test_a_run_that_does_not_fit_at_all_is_refused_and_the_others_go_on(tmp_path, monkeypatch):
    large, small = small_run(1, "original", 14), small_run(1, "original", iterations=4)
    real = many.training

    def short(run, *arguments, **options):
        if run is large:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (yield from real(run, *arguments, **options))

    monkeypatch.setattr(many, "training", short)
    outcomes = together([large, small], tmp_path, most=1).outcomes
    assert isinstance(outcomes[large], UsageError) and "does not fit into the device's memory" in str(outcomes[large])
    assert outcomes[small]["status"] == "finished"


def test_a_stop_leaves_checkpoints_from_which_the_same_numbers_come(tmp_path):
    runs = [small_run(1, "original", seed=seed) for seed in (0, 1)]
    left = iter([False] * 17)
    stopped = together(runs, tmp_path / "many", should_stop=lambda: next(left, True)).outcomes
    assert stopped == dict.fromkeys(runs)
    assert all(checkpoint.read(run, "fp32", "cpu", tmp_path / "many") for run in runs)
    outcomes = together(runs, tmp_path / "many").outcomes
    for run in runs:
        assert records.numbers(outcomes[run]) == alone(run, tmp_path / "alone")


def test_resnet_1001_in_16_gigabytes():
    """In bf16 it fits as it is; in fp32 it is recomputed, and fits; ResNet-110 is never recomputed there."""
    card = 15.5 * 2**30
    protocol = replace(CIFAR)
    large, usual = (Recipe("cifar10", cifar_spec(depth), protocol) for depth in (1001, 110))
    assert not memory.recomputes(large, (32, 32), "bf16", card)
    assert memory.recomputes(large, (32, 32), "fp32", card)
    assert memory.need(large, (32, 32), "fp32", recompute=True) < card
    assert not memory.recomputes(usual, (32, 32), "fp32", card)
    assert not memory.recomputes(large, (32, 32), "fp32", memory.free("cpu"))


GIB = 2**30


@pytest.mark.parametrize(
    "needs, most, gigabytes, expected",
    [([1, 1, 1], 3, 3, 3), ([1, 1, 1], 2, 3, 2), ([1, 3, 1, 2], 3, 5.5, 2), ([9, 9], 2, 1, 1), ([1, 1], 2, 1.9, 1)],
)
def test_the_largest_runs_decide_how_many_fit(needs, most, gigabytes, expected):
    """Any of them may meet any other, so that as many are taken as fit even if they are the largest."""
    assert memory.at_once([need * GIB for need in needs], most, gigabytes * GIB) == expected


@pytest.mark.parametrize("gigabytes, processes", [(0.5, 1), (2.5, 2), (64, 4)])
def test_main_memory_decides_how_many_processes(tmp_path, monkeypatch, gigabytes, processes):
    """On eight cores, four runs of which each is estimated at little more than the fixed share of 1 GiB."""
    runs, lines, asked = [small_run(1, "original", seed=seed) for seed in range(4)], [], []
    monkeypatch.setattr(many, "cores", lambda: 8)
    monkeypatch.setattr(memory, "main", lambda: gigabytes * GIB)
    monkeypatch.setattr(many, "_in_processes", lambda waiting, processes, how, *_: asked.append((processes, how)) or {})
    many.train_all(runs, results=tmp_path, report=lines.append)
    assert asked == [(processes, How(results=tmp_path))]
    few = f"main memory holds {processes} of these runs at once, not 4: training fewer at once"
    assert [event["line"] for event in lines] == ([] if processes == 4 else [few])


def test_main_memory_is_what_this_machine_has():
    assert memory.main() > 0 and (memory.main() < 2**50 or not Path("/proc/meminfo").exists())
