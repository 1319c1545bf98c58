"""What a Ray cluster costs beside training: the same runs of a minute alone and as Ray's tasks, in turn.

python book/measure_scheduling.py book/scheduling.json

The cluster is this machine's, with one worker of one core; alone, the runs train one after another in this process, on
one thread as well. Both ways start without records, and each round has both, so that what else the machine does meets
both. The first round of all is left out: it starts the worker.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "pkg"), str(ROOT / "tests")]

import ray_nodes  # noqa: E402

from identity_mappings.experiments import paper  # noqa: E402
from identity_mappings.experiments.runs import plan  # noqa: E402
from identity_mappings.machines import cluster  # noqa: E402
from identity_mappings.results import records  # noqa: E402
from identity_mappings.training import train  # noqa: E402
from identity_mappings.training.loop import device_name  # noqa: E402

RUNS, ROUNDS = 2, 5


def alone(runs, results):
    return {run: train(run, results=results, threads=1) for run in runs}


def by_ray(runs, results):
    return cluster.train_on_cluster(runs, results=results, threads=1, device="cpu")


def timed(way, runs):
    """(seconds of the wall clock, their seconds inside the runs, the runs' numbers)."""
    with tempfile.TemporaryDirectory() as results:
        began = time.perf_counter()
        outcomes = way(runs, Path(results))
        took = time.perf_counter() - began
    inside = sum(record["wall_seconds"] for record in outcomes.values())
    return took, inside, {run.name: records.numbers(record) for run, record in outcomes.items()}


def main(out):
    runs = plan(paper.rows(1, ["original"]), "smoke", RUNS)
    cluster.ray()
    started, rounds = ray_nodes.start(workers=1), []
    with cluster.connected(started.address):
        timed(by_ray, runs[:1])
        for _ in range(ROUNDS):
            (baseline, _, expected), (took, inside, found) = timed(alone, runs), timed(by_ray, runs)
            assert found == expected, "a run under Ray must end with the numbers of the run alone"
            rounds.append({"alone": baseline, "ray": took, "outside_training": took - inside})
            print(json.dumps(rounds[-1]), flush=True)
    started.shutdown()
    outcome = {
        "device": device_name("cpu"),
        "commit": records.commit(),
        "ray": cluster.ray().__version__,
        "runs": [run.name for run in runs],
        "seconds": [{name: round(value, 2) for name, value in each.items()} for each in rounds],
    }
    Path(out).write_text(json.dumps(outcome, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
