"""ImageNet's trainer on a CPU: a batch however it is shared, runs that are stopped and killed, counts by processes."""

import json
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import by_torchrun
import numpy as np
import pytest
import torch
import two_processes
from by_torchrun import NETWORK, PROTOCOL, SHALLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributed import HashStore
from two_processes import ITERATIONS, draw_few, environment, small, torchrun

from identity_mappings import UsageError, commands
from identity_mappings.__main__ import main, parser
from identity_mappings.data import drawn, imagenet
from identity_mappings.data.pictures import Pictures, Share
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import plan
from identity_mappings.iteration import memory
from identity_mappings.iteration.capture import compile_regions
from identity_mappings.nets.norm import BatchNorm2d
from identity_mappings.pages import show
from identity_mappings.results import records
from identity_mappings.training import distributed, state, train, train_all
from identity_mappings.training.imagenet import SharedStep, share_of

KILLS = int(os.environ.get("IDENTITY_MAPPINGS_KILLS", "1"))  # of one process of two, and as many of both


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder with a few drawn pictures."""
    root = tmp_path_factory.mktemp("data")
    draw_few(root)
    return root


@pytest.fixture(autouse=True)
def data(folder, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(folder))
    state._photographs.cache_clear()
    yield folder
    state._photographs.cache_clear()


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    """What two processes find, with parts of 8 and of 4 images, and what three find, who cannot share a batch of 16."""
    found = {}
    for processes, parts in ((2, (8, 4)), (3, ())):
        out = tmp_path_factory.mktemp("by") / "found.pt"
        command = torchrun(processes, "measure", out, *parts)
        places = {"IDENTITY_MAPPINGS_DATA": str(folder)}
        subprocess.run(command, check=True, env=environment(**places), capture_output=True, timeout=500)
        found[processes] = torch.load(out, weights_only=False)
    return found


# --- a batch, whole, in parts, and shared


@pytest.mark.parametrize("dtype, within", [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_whole_in_parts_and_by_two_processes_the_same_weights(measured, dtype, within):
    whole = by_torchrun.steps(16, dtype)
    for found in (by_torchrun.steps(4, dtype), *(measured[2]["steps"][part, dtype] for part in (8, 4))):
        for name in ("weights", "velocity", "running"):
            torch.testing.assert_close(found[name], whole[name], rtol=0, atol=within)
        assert float(found["loss_sum"]) == pytest.approx(float(whole["loss_sum"]), abs=1e-5)
        assert found["wrong_sum"] == whole["wrong_sum"] and found["counter"] == 10
    assert whole["weights"].dtype == dtype and whole["velocity"].abs().max() > 0.01  # ten steps lead somewhere


def test_the_step_is_the_textbooks():
    """One batch in parts, against a plain loop with BN over groups, autograd and torch.optim.SGD."""
    pictures = Pictures(imagenet.load("drawn").train, PROTOCOL, share=Share(8))
    step = SharedStep(SHALLOW, pictures, PROTOCOL, 0, "cpu", "fp32")
    reference = SharedStep(SHALLOW, pictures, PROTOCOL, 0, "cpu", "fp32").network
    optimiser = torch.optim.SGD(reference.parameters(), PROTOCOL.learning_rate, momentum=0.9, weight_decay=1e-4)
    for module in reference.modules():
        if isinstance(module, BatchNorm2d):
            module.batch_mean = module.batch_var = None  # it keeps its own running statistics
    for iteration in range(3):
        step.batches.bring(iteration)
        images, labels = (torch.cat(each) for each in zip(*step.batches.parts(), strict=True))
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(reference(images), labels).backward()
        optimiser.step()
        step.batches.bring(iteration)
        step()
    for (name, ours), theirs in zip(step.network.state_dict().items(), reference.state_dict().values(), strict=True):
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6, msg=name)


def test_a_compiled_step_is_the_plain_one():
    """On CUDA its regions are compiled, by Inductor; here the compiler's first half reads them."""
    found = []
    for compiled in (False, True):
        files = Pictures(imagenet.load("drawn").train, by_torchrun.SMALL_CROPS, share=Share(8))
        step = SharedStep(by_torchrun.SMALL, files, by_torchrun.SMALL_CROPS, 0, "cpu", "fp32")
        before = {name: tensor.clone() for name, tensor in step.tensors().items()}
        if compiled:
            compile_regions(step, backend="aot_eager")
        step.rehearse()
        assert all(torch.equal(tensor, before[name]) for name, tensor in step.tensors().items())  # nothing stays of it
        for iteration in range(3):
            step.batches.bring(iteration)
            step()
        found.append(step.tensors())
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=0, atol=1e-6, msg=name)


def test_recomputing_gives_the_same():
    pictures = Pictures(imagenet.load("drawn").train, PROTOCOL, share=Share(8))
    found = []
    for recompute in (False, True):
        step = SharedStep(NETWORK, pictures, PROTOCOL, 0, "cpu", "fp32", recompute)
        for iteration in range(2):
            step.batches.bring(iteration)
            step()
        found.append(step.tensors())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


# --- shares


@pytest.mark.parametrize("processes", [3, 5, 16])
def test_shares_must_hold_whole_groups(monkeypatch, processes):
    monkeypatch.setattr(distributed, "size", lambda: processes)
    recipe = paper.rows(5)[0].recipe()
    with pytest.raises(UsageError, match="a batch of 256 images in whole BN groups of 32: .* 1, 2, 4, 8 of them; got"):
        share_of(recipe, (224, 224), "bf16", "cpu")


@pytest.mark.parametrize(
    "processes, gigabytes, part", [(1, 10_000, 256), (8, 10_000, 32), (1, 40, 256), (1, 10, 64), (2, 10, 64)]
)
def test_parts_follow_from_memory(monkeypatch, processes, gigabytes, part):
    """64 images keep 5.2 GiB of ResNet-152's activations in bf16, as tests/nets/test_counts.py has it: it takes 8."""
    monkeypatch.setattr(distributed, "size", lambda: processes)
    monkeypatch.setattr(memory, "main", lambda: gigabytes << 30)
    share, recompute = share_of(paper.rows(5)[0].recipe(), (224, 224), "bf16", "cpu")
    assert (share.part, share.size, recompute) == (part, processes, False)


def test_where_no_group_fits_activations_are_recomputed(monkeypatch):
    """32 images keep as much in fp32 as 64 do in bf16."""
    monkeypatch.setattr(memory, "main", lambda: 7 << 30)
    share, recompute = share_of(paper.rows(5)[0].recipe(), (224, 224), "fp32", "cpu")
    assert (share.part, recompute) == (32, True)


# --- runs


def test_a_run_and_its_record(tmp_path):
    run = small(8, "152-original-320")
    record = train(run, results=tmp_path, threads=1)
    assert record["status"] == "finished" and record["curve"]["iteration"] == list(range(1, 9))
    assert record["test_error"] == record["crops"]["trained"]["top1"]
    assert [record["crops"][name]["crop"] for name in ("trained", "larger")] == [64, 91]
    assert record["pictures"] == {"train": 40, "test": 47} and record["processes"] == 1
    row, other = paper.rows(5, ["152-original-320", "152-original-224"])
    assert row.errors(record)[0] == record["crops"]["larger"]["top1"]
    assert records.read(run, tmp_path) == record
    assert [run.row for run in records.runs_of(other, "smoke", run.reduction, tmp_path)] == [
        other
    ]  # its home: trained once


def test_resumed_is_uninterrupted_bit_for_bit(tmp_path):
    run = small(8)
    whole = records.numbers(train(run, results=tmp_path / "whole", threads=1))
    for stop in (3, 2):
        left = iter([False] * (stop - 1) + [True])
        assert train(run, results=tmp_path / "parts", threads=1, should_stop=lambda: next(left)) is None  # noqa: B023
    assert records.numbers(train(run, results=tmp_path / "parts", threads=1)) == whole
    assert "crops" in whole


def test_a_damaged_picture_is_named_and_kept_in_the_record(tmp_path, folder, monkeypatch):
    place = tmp_path / "data" / f"drawn-{drawn.VERSION}"
    place.parent.mkdir()
    subprocess.run(["cp", "-r", folder / place.name, place], check=True)
    (place / "train/disc/1.JPEG").write_bytes(b"\xff\xd8 broken")
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(place.parent))
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    said = []
    record = train(small(8), results=tmp_path, threads=1, report=said.append)
    assert len(record["damaged"]) == 1 and "disc/1.JPEG" in record["damaged"][0]
    shown = show.provenance(5, record["row"], "smoke", small(8).reduction.name).data
    assert "Left out of training: 1." in shown and "disc/1.JPEG" in shown
    notes = [event["line"] for event in said if event["kind"] == "note"]
    assert len(notes) == 1 and "left out" in notes[0] and "disc/1.JPEG" in notes[0]
    (place / "val/disc/1.JPEG").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(UsageError, match="val/disc/1.JPEG .*replace it"):
        train(small(8, "152-original-224"), results=tmp_path, threads=1)


def test_a_run_on_imagenet_is_not_watched(tmp_path):
    with pytest.raises(UsageError, match="cannot be watched"):
        train(replace(small(8), watched=True), results=tmp_path)


def test_weights_give_the_records_errors_at_both_crops(tmp_path, capsys):
    run = small(8)
    record = train(run, results=tmp_path, threads=1, weights=True)
    for name in ("trained", "larger"):
        found = record["crops"][name]
        arguments = ["evaluate", "--weights", str(run.weights_path(tmp_path)), "--crop", str(found["crop"])]
        assert main([*arguments, "--device", "cpu"]) == 0
        top1, top5 = re.findall(r"error (\d+\.\d\d) %", capsys.readouterr().out)
        assert (float(top1), float(top5)) == (round(found["top1"], 2), round(found["top5"], 2))


# --- several processes


@pytest.mark.parametrize("processes", [2, 3])
def test_an_evaluation_by_processes_counts_alike(measured, processes):
    """47 pictures: a remainder for two and for three."""
    alone = by_torchrun.evaluate()
    assert alone[0].n == 47 and alone[0] != alone[1]
    assert measured[processes]["scores"] == alone


def test_cifar_is_trained_by_one_process(tmp_path, monkeypatch):
    from conftest import small_run

    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(UsageError, match="is trained by one process; got 2: run it without torchrun"):
        train(small_run(1, "original"), results=tmp_path)


@pytest.mark.parametrize("cut", [Reduction(), Reduction(depth=50, iterations=30)])
def test_gpus_are_given_the_same_runs_by_torchrun(monkeypatch, cut):
    runs, asked = plan(paper.rows(5), "quick", 2, cut), []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(distributed, "run", lambda count, arguments: asked.append((count, arguments)) or 0)
    commands.train_on_gpus(8, runs, "bf16", weights=True, budget="25m")
    ((count, arguments),) = asked
    given = parser().parse_args(["train", *arguments])
    cut = Reduction(given.depth, given.iterations, given.width)
    again, *_ = commands.planned(given.table, given.row, given.tier, tuple(given.seed), cut, "cpu")
    assert count == 8 and set(again) == set(runs) and len(again) == len(runs)
    assert (given.precision, given.weights, given.budget) == ("bf16", True, "25m")
    line = " ".join(distributed.command(8, arguments))
    assert "torch.distributed.run --standalone --nproc-per-node 8 --max-restarts 10 -m identity_mappings train" in line


def test_what_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(distributed, "run", lambda *_: 1)
    (run,) = plan(paper.rows(5, ["101-original-224"]), "quick", 1)
    with pytest.raises(UsageError, match="--gpus must be from 1 to the CUDA devices that torch can use here, 8; got 9"):
        commands.train_on_gpus(9, [run], "fp32")
    with pytest.raises(UsageError, match="training on 8 GPUs ended with status 1, .* goes on from the last checkpoint"):
        commands.train_on_gpus(8, [run], "fp32")
    with pytest.raises(UsageError, match="--gpus is for Table 5"):
        commands.train_on_gpus(8, plan(paper.rows(3), "quick", 1), "fp32")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match="--gpus needs CUDA devices; torch can use none here"):
        commands.train_on_gpus(2, [run], "fp32")


def test_processes_join_whatever_ended_ones_left_in_the_store(tmp_path):
    """Two starts die, one of them before all had joined; torchrun keeps one store for all three."""
    command = torchrun(2, "rejoin", tmp_path / "found.json", restarts=2)
    subprocess.run(command, check=True, env=environment(), capture_output=True, timeout=200)
    assert json.loads((tmp_path / "found.json").read_text()) == [2, []]


@given(st.integers(1, 4), st.sets(st.integers(0, 3)), st.permutations([0, 0.005, 0.01, 0.02]))
@settings(max_examples=15, deadline=None)
def test_each_start_has_a_part_of_the_store_of_its_own(size, lost, delays):
    """lost: the ranks whose processes had come when a first start ended. delays: of each process that comes after."""
    store = HashStore()  # threads share it as processes share torchrun's, without sockets
    for rank in lost:
        store.set(f"word of {rank}", "of a process that has ended")

    def joined(rank):
        time.sleep(delays[rank])
        return distributed.of_this_start(store, rank, size)

    for _ in range(2):
        with ThreadPoolExecutor(size) as pool:
            stores = list(pool.map(joined, range(size)))
        assert not any(each.check(["address"]) for each in stores)
        stores[0].set("address", "here")
        assert all(each.get("address") == b"here" for each in stores)


def test_a_process_that_never_joins_is_waited_for_in_vain(monkeypatch):
    monkeypatch.setattr(distributed, "PATIENCE", timedelta(seconds=0.2))
    store = HashStore()
    store.set("word of 1", "of a process that has ended")
    with pytest.raises(torch.distributed.DistStoreError, match="not all of 2 processes joined within 0 s"):
        distributed.of_this_start(store, 0, 2)


def test_processes_with_a_results_folder_each_are_refused(tmp_path):
    """The first machine has a checkpoint, the second has none: they would train different iterations together."""
    run, stops = small(8), iter([False, False, True])
    assert train(run, results=tmp_path / "results-0", threads=1, should_stop=lambda: next(stops)) is None
    status, said = two_processes.train(run, tmp_path / "results", what="apart")
    assert status == 1 and "must have one results folder" in said
    assert run.checkpoint_path(tmp_path / "results-0").exists()


def test_processes_must_have_the_same_runs_to_train(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "union", lambda found: found | {"[]"})  # another finds all of them ended
    with pytest.raises(UsageError, match="set .IDENTITY_MAPPINGS_RESULTS to a folder that all their machines share"):
        train_all([small(8)], results=tmp_path)


@pytest.fixture(scope="module")
def unharmed(folder, tmp_path_factory):
    """The numbers of a run that two processes train and nobody kills."""
    results, patch = tmp_path_factory.mktemp("whole"), pytest.MonkeyPatch()
    patch.setenv("IDENTITY_MAPPINGS_DATA", str(folder))
    status, said = two_processes.train(small(), results)
    patch.undo()
    assert status == 0, said
    return records.numbers(records.read(small(), results))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="finds torchrun's workers in /proc")
@pytest.mark.parametrize("victims", (1, 2))
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_workers_end_with_the_same_record(tmp_path, unharmed, victims, number):
    run = small()
    kill = two_processes.Kill(run, tmp_path, victims, np.random.RandomState([victims, number]))
    status, said = two_processes.train(run, tmp_path, kill)
    assert status == 0 and len(kill.killed) == victims, said
    resumed = int(re.search("resumed at iteration ([0-9]+)", said)[1])
    assert kill.after <= resumed < ITERATIONS
    assert records.numbers(records.read(run, tmp_path)) == unharmed
