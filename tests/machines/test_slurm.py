"""The Slurm script of the book's page, run by the shell with the variables that an array sets."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "book" / "machines.md"


def test_an_array_trains_the_seed_of_its_task(tmp_path):
    (script,) = re.findall(r"```sh\n(#!/bin/bash\n.*?)```", PAGE.read_text(), re.S)
    path, results = tmp_path / "train.sbatch", tmp_path / "results"
    path.write_text(script)
    array = {
        "SLURM_ARRAY_JOB_ID": "71",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_COUNT": "5",
        "SLURM_JOB_ID": "74",
    }
    python = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = os.environ | array | {"PATH": python, "IDENTITY_MAPPINGS_RESULTS": str(results)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    # two rows, so that on two cores each has one thread: two threads of one run wait for each other on a busy machine
    words = "--table 1 --row original --row conv-1x1 --tier smoke --depth 8 --iterations 4 --device cpu"
    subprocess.run(["bash", path, *words.split()], env=env, check=True, capture_output=True, timeout=600)
    assert [found.name for found in results.rglob("*.json")] == ["seed-3.json"] * 2
