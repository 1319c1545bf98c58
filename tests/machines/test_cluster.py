"""Runs on a Ray cluster: records equal to undisturbed ones whatever is lost, and what a wrong cluster is answered with.

The tests of a whole cluster start three Ray nodes on this machine, and are run by `pytest -m cluster`.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import ray_nodes
from conftest import small_run, toy

from identity_mappings.data import drawn, load
from identity_mappings.errors import Interrupted, UsageError
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import plan
from identity_mappings.machines import cluster
from identity_mappings.results import records
from identity_mappings.training import checkpoint, distributed, train
from identity_mappings.training.loop import How, locked


class Reference:
    def __init__(self, value):
        self.value = value


class Here:
    """Ray's calls answered in this process: tasks one after the other, each when it is waited for."""

    class exceptions:
        """None of these is raised here."""

        WorkerCrashedError = NodeDiedError = OutOfMemoryError = TaskCancelledError = type("Lost", (Exception,), {})
        RayActorError = RaySystemError = WorkerCrashedError

    class util:
        class scheduling_strategies:
            @staticmethod
            def NodeAffinitySchedulingStrategy(node, soft):
                return node

    def get_runtime_context(self):
        return Local(None)

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]

    def put(self, value):
        return Reference(value)

    def get(self, reference):
        return reference.value

    def wait(self, references, timeout=None):
        first = references[0]
        if isinstance(first, Task):
            first.run()
        return references[:1], references[1:]

    def cancel(self, task):
        task.cancelled = True

    def remote(self, **_):
        return lambda made: Remote(made) if isinstance(made, type) else Remote(made).options()


class Task:
    """A task's reference: its function is called when it is first waited for; what it raises, `get` raises."""

    def __init__(self, function, arguments):
        self.function, self.arguments, self.ended, self.cancelled = function, arguments, None, False

    def run(self):
        if self.ended is None:
            given = [each.value if isinstance(each, Reference) else each for each in self.arguments]
            try:
                self.ended = ("is", self.function(*given))
            except UsageError as error:
                self.ended = ("raised", error)

    @property
    def value(self):
        if self.cancelled:
            raise Here.exceptions.TaskCancelledError
        how, what = self.ended
        if how == "raised":
            raise what
        return what


class Remote:
    """What `ray.remote` makes of a class or a function."""

    def __init__(self, made):
        self.made = made

    def options(self, **_):
        return self

    def remote(self, *arguments):
        return Local(self.made(*arguments)) if isinstance(self.made, type) else Task(self.made, arguments)


class Local:
    """A handle of a `Home` in this process."""

    def __init__(self, home):
        self.home = home

    def get_node_id(self):
        return "here"

    def __getattr__(self, name):
        class Method:
            @staticmethod
            def remote(*arguments):
                return Reference(getattr(self.home, name)(*arguments))

        return Method


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(cluster, "ray", Here)
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0)


def work(home, run, source=None, token=None, **how):
    how = How(threads=1, **how)
    dataset = cluster.data.load(run.recipe.dataset)
    return cluster.work(Local(home), run, how, dataset, source or cluster.source_digest(), token)


def after(iterations, home):
    """Has the home ask for a stop after that many looks."""
    left = iter([False] * iterations)
    home.asked = lambda: next(left, True)


def test_a_worker_ends_with_the_numbers_of_the_run_alone(run, here, tmp_path):
    home = cluster.Home(tmp_path / "home")
    record, weights = work(home, run, results=tmp_path / "home")
    assert records.numbers(record) == records.numbers(train(run, results=tmp_path / "alone", threads=1))
    assert weights is None and not (tmp_path / "home").exists()  # the record is the driver's to write
    assert {event["run"] for event in home.events()} == {run.name} and home.events() == []


def test_a_stopped_worker_leaves_its_checkpoint_at_home_and_another_goes_on(run, here, tmp_path):
    results = tmp_path / "home"
    home = cluster.Home(results)
    after(7, home)
    assert work(home, run, results=results) == (None, None)
    assert checkpoint.read(run, "fp32", "cpu", results)["state"]["iteration"] == 8
    again = cluster.Home(results)
    record, _ = work(again, run, results=results)
    assert [event["iteration"] for event in again.events() if event["kind"] == "start"] == [8]
    assert records.numbers(record) == records.numbers(train(run, results=tmp_path / "alone", threads=1))


def test_a_checkpoint_comes_home_while_its_run_goes_on(run, here, tmp_path, monkeypatch):
    """The worker is lost without a word; what came home is complete."""
    for name in ("CHECKPOINT_SECONDS", "CHECKPOINT_SHARE"):
        monkeypatch.setattr(f"identity_mappings.training.loop.{name}", 0)
    home, kept = cluster.Home(tmp_path / "home"), []
    monkeypatch.setattr(home, "keep", lambda run, content: (kept.append(content), type(home).keep(home, run, content)))
    work(home, run, results=tmp_path / "home")
    assert len(set(kept)) > 10
    assert checkpoint.read(run, "fp32", "cpu", tmp_path / "home")["state"]["iteration"] > 10


def test_weights_come_home_with_the_record(run, here, tmp_path):
    pytest.importorskip("safetensors")
    _, weights = work(cluster.Home(tmp_path), run, results=tmp_path, weights=True)
    train(run, results=tmp_path / "alone", threads=1, weights=True)
    assert len(weights) == run.weights_path(tmp_path / "alone").stat().st_size


def test_a_job_ends_as_its_runs_do_alone(here, tmp_path):
    """From the runs to the records at home; a damaged record and a checkpoint of something else are told, and stay."""
    runs = [small_run(1, "original", seed=seed) for seed in range(4)]
    damaged, foreign, *good = runs
    for path in (damaged.record_path(tmp_path), foreign.checkpoint_path(tmp_path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{")
    events = []
    outcomes = cluster.train_on_cluster(runs, events.append, results=tmp_path)
    assert list(outcomes) == runs and {event["run"] for event in events} == {run.name for run in runs[2:]}
    assert "must be a run record" in str(outcomes[damaged]) and "must be a checkpoint" in str(outcomes[foreign])
    for run in good:
        assert records.read(run, tmp_path) == outcomes[run]
        assert records.numbers(outcomes[run]) == records.numbers(train(run, results=tmp_path / "alone"))
    folder = damaged.folder(tmp_path)
    left = {damaged.record_path(tmp_path), foreign.checkpoint_path(tmp_path)} | {r.record_path(tmp_path) for r in good}
    assert {path for path in folder.iterdir() if path.suffix != ".lock"} == left
    assert cluster.train_on_cluster(good, results=tmp_path) == {run: outcomes[run] for run in good}


def test_a_run_that_another_process_trains_is_left_to_it(here, tmp_path):
    held, free = (small_run(1, "original", seed=seed) for seed in (0, 1))
    with locked(held, tmp_path):
        outcomes = cluster.train_on_cluster([held, free], results=tmp_path)
    assert "is being trained by another process" in str(outcomes[held]) and outcomes[free]["status"] == "finished"


def test_a_budget_on_a_cluster_ends_in_time_and_the_same_call_goes_on(here, tmp_path):
    """The first run's task is under way when the time is up, the second's has not begun: it is cancelled."""
    runs = [small_run(1, "original", seed=seed) for seed in (0, 1)]
    outcomes = cluster.train_on_cluster(runs, results=tmp_path, until=time.monotonic() + cluster.LEAVE)
    assert outcomes[runs[1]] is None and not runs[1].record_path(tmp_path).exists()
    outcomes = cluster.train_on_cluster(runs, results=tmp_path)
    assert numbers(outcomes) == numbers({run: train(run, results=tmp_path / "alone") for run in runs})


def test_a_machine_with_another_library_is_refused(run, here, tmp_path):
    with pytest.raises(UsageError, match="runs another library .000000000000, expected|runs another library"):
        work(cluster.Home(tmp_path), run, source="0" * 64)


def test_a_machine_that_does_not_share_the_folder_is_refused(run, here, tmp_path):
    with pytest.raises(UsageError, match="does not share .*leave --shared out"):
        work(cluster.Home(tmp_path), run, token="shared-1.lock", results=tmp_path)
    with cluster._token(tmp_path) as name:
        record, _ = work(cluster.Home(tmp_path), run, token=name, results=tmp_path)
    assert records.read(run, tmp_path) == record  # written there by the worker
    assert [path.name for path in tmp_path.rglob("*.*")] == [run.record_path().name]


def test_a_second_begin_is_told(run, tmp_path):
    home = cluster.Home(tmp_path)
    assert home.begin(run, "a") is None and home.events() == []
    home.begin(run, "b")
    assert "its worker was lost; it goes on on b" in home.events()[0]["line"]


def test_the_data_of_a_job_are_the_workers_own():
    given = toy()
    for name in ("x_train", "x_test"):
        getattr(given, name).flags.writeable = False
    own = cluster._own(given)
    assert own.x_train.flags.writeable and np.array_equal(own.x_train, given.x_train) and own.classes == 10


@pytest.mark.parametrize("gigabytes, share", [(0.5, 1), (2.5, 1 / 2), (500, 1 / 3)])
def test_small_nets_share_a_gpu(run, gigabytes, share):
    """Each of these is estimated at little more than the fixed share of 1 GiB."""
    assert cluster.share_of_gpu(run, "fp32", gigabytes * 2**30, 3) == share


def test_a_run_on_imagenet_takes_a_gpu_and_finds_its_files_where_they_were(monkeypatch, tmp_path):
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path))
    monkeypatch.setattr(drawn, "PICTURES", {"train": 1, "val": 1})
    assert cluster._sent("drawn") is None  # each machine draws them
    (on_imagenet,) = plan(paper.rows(5, ["152-original-224"]), "paper", 1)
    assert cluster.share_of_gpu(on_imagenet, "bf16", 10**12, 3) == 1
    found = load("drawn")
    assert cluster._own(found) is found
    (tmp_path / f"drawn-{drawn.VERSION}/val").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="has no .*/val: every machine needs ImageNet under the same path"):
        cluster._own(found)


SHARED = Reduction(depth=50, iterations=4, width=1)


def test_torchrun_trains_a_run_that_ray_places(here, tmp_path, monkeypatch):
    """Two processes on drawn pictures end with the numbers of one, up to rounding; a cluster without room says so."""
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path / "data"))
    (run,) = plan(paper.rows(5, ["200-pre-activation-320"]), "smoke", 1, SHARED)
    events = []
    outcomes = cluster.train_on_cluster([run], events.append, processes=2, results=tmp_path)
    record = outcomes[run]
    assert record["processes"] == 2 and records.read(run, tmp_path) == record
    assert any("iteration 4/4" in event.get("line", "") for event in events)
    alone = train(run, results=tmp_path / "alone")
    assert record["curve"]["train_loss"][0] == pytest.approx(alone["curve"]["train_loss"][0], rel=1e-4)
    with pytest.raises(UsageError, match="at most the CPUs of one machine of the cluster, 2; got 3"):
        cluster.train_on_cluster([replace(run, seed=1)], processes=3, results=tmp_path)
    with pytest.raises(UsageError, match="--gpus is for Table 5"):
        cluster.train_on_cluster([small_run(1, "original")], processes=2, results=tmp_path)


def test_what_torchrun_could_not_train_is_told_in_its_own_last_words(here, tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(cluster.distributed, "command", lambda *_: ["sh", "-c", "echo begun; echo no more >&2; exit 7"])
    (run,) = plan(paper.rows(5, ["200-pre-activation-320"]), "smoke", 1, SHARED)
    outcomes = cluster.train_on_cluster([run], processes=2, results=tmp_path)
    assert "torchrun ended with status 7: no more" in str(outcomes[run])


def test_the_source_digest_sees_every_file(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PACKAGE", tmp_path)
    found = set()
    for name, text in (("a.py", "x"), ("a.py", "y"), ("b/c.py", ""), ("notes.txt", "z")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        found.add(cluster.source_digest())
    assert len(found) == 3


def test_an_address_that_is_none_is_one_line():
    pytest.importorskip("ray", reason="Ray is an extra: pip install -e '.[cluster]'")
    with pytest.raises(UsageError, match="must be auto or HOST:PORT"), cluster.connected("ray://head:10001"):
        pass


@pytest.fixture(scope="module")
def three_nodes():
    """A head, to which this process is connected, and two workers of one core each."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install -e '.[cluster]'")
    cluster.ray()
    started = ray_nodes.start()
    with cluster.connected(started.address) as device:
        assert device == "cpu"
        yield started
    started.shutdown()


def numbers(outcomes):
    return {run.name: records.numbers(record) for run, record in outcomes.items()}


@pytest.mark.cluster
@pytest.mark.parametrize("shared", [False, True], ids=["through Ray", "shared folder"])
def test_a_lost_node_costs_no_run(three_nodes, tmp_path, shared):
    runs = [small_run(1, "original", iterations=590, seed=seed) for seed in range(3)]
    lost, lines, stepped = [], [], set()

    def report(event):
        lines.append(event.get("line", ""))
        if event["kind"] == "step" and event["iteration"] > 60:
            stepped.add(event["run"])
        if len(stepped) == 2 and not lost:  # both workers have one
            lost.append(next(iter(three_nodes.worker_nodes)))
            three_nodes.remove_node(lost[0], allow_graceful=False)

    outcomes = cluster.train_on_cluster(runs, report, shared, results=tmp_path / "ray")
    ray_nodes.add(three_nodes)
    assert any("its worker was lost" in line for line in lines)
    alone = {run: train(run, results=tmp_path / "alone", threads=1) for run in runs}
    assert numbers(outcomes) == numbers(alone)
    for run in runs:
        assert records.read(run, tmp_path / "ray") == outcomes[run]
    assert {path.suffix for path in (tmp_path / "ray").rglob("*") if path.is_file()} == {".json"}


@pytest.mark.cluster
def test_a_core_trains_one_run_at_a_time(three_nodes, tmp_path):
    """A run that waits for an answer from home must not count as idle to Ray, which would begin another beside it."""
    runs, under_way, most = [small_run(1, "original", iterations=300, seed=seed) for seed in range(5)], set(), []

    def report(event):
        (under_way.discard if event["iteration"] == event["iterations"] else under_way.add)(event["run"])
        most.append(len(under_way))

    outcomes = cluster.train_on_cluster(runs, report, results=tmp_path, threads=1)
    assert max(most) == 2 and {record["status"] for record in outcomes.values()} == {"finished"}  # of two cores


@pytest.mark.cluster
def test_ctrl_c_leaves_checkpoints_at_home_and_the_same_call_goes_on(three_nodes, tmp_path):
    runs = [small_run(1, "original", iterations=590, seed=seed) for seed in range(3)]
    stepped = threading.Event()

    def report(event):
        if event["kind"] == "step" and event["iteration"] > 100 and not stepped.is_set():
            stepped.set()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted):
        cluster.train_on_cluster(runs, report, results=tmp_path / "ray")
    assert any(checkpoint.read(run, "fp32", "cpu", tmp_path / "ray") for run in runs)
    outcomes = cluster.train_on_cluster(runs, results=tmp_path / "ray")
    assert numbers(outcomes) == numbers({run: train(run, results=tmp_path / "alone", threads=1) for run in runs})


@pytest.mark.cluster
def test_a_refused_run_does_not_stop_the_others(three_nodes, tmp_path):
    damaged, good = small_run(1, "original"), small_run(1, "original", seed=1)
    path = damaged.record_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    other = replace(good, seed=2)
    other.checkpoint_path(tmp_path).write_bytes(b"no checkpoint")
    outcomes = cluster.train_on_cluster([damaged, good, other], results=tmp_path)
    assert outcomes[good]["status"] == "finished"
    for run, line in ((damaged, "must be a run record"), (other, "must be a checkpoint of this library")):
        assert line in str(outcomes[run]) and "Traceback" not in str(outcomes[run])
    assert path.read_text() == "{" and other.checkpoint_path(tmp_path).read_bytes() == b"no checkpoint"


@pytest.mark.cluster
def test_ray_finds_the_machine_on_which_torchrun_trains(three_nodes, tmp_path, monkeypatch):
    """Neither worker has two cores; one is added whose two processes end with the numbers of two without Ray."""
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path / "data"))
    (run,) = plan(paper.rows(5, ["200-pre-activation-320"]), "smoke", 1, SHARED)
    with pytest.raises(UsageError, match="at most the CPUs of one machine of the cluster, 1; got 2"):
        cluster.train_on_cluster([run], processes=2, results=tmp_path / "ray")
    added = ray_nodes.add(three_nodes, cpus=2)
    try:
        (record,) = cluster.train_on_cluster([run], processes=2, results=tmp_path / "ray").values()
    finally:
        three_nodes.remove_node(added)
    assert record["processes"] == 2 and records.read(run, tmp_path / "ray") == record
    given = distributed.command(2, distributed.arguments([run], "cpu", "fp32", False))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "IDENTITY_MAPPINGS_RESULTS": str(tmp_path)}
    subprocess.run(given, env=environment, check=True, capture_output=True, timeout=600)
    assert records.numbers(records.read(run, tmp_path)) == records.numbers(record)
