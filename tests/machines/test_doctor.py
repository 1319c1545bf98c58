"""What doctor says of this machine, and of machines that lack something."""

import json
from types import SimpleNamespace

import pytest

from identity_mappings import environment
from identity_mappings.__main__ import main
from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import TIERS
from identity_mappings.experiments.runs import plan
from identity_mappings.iteration.capture import PLAIN
from identity_mappings.machines import doctor
from identity_mappings.results import costs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path))
    monkeypatch.setattr(doctor, "SECONDS", 0.1)
    monkeypatch.setattr(doctor.examine, "__defaults__", (0.1,))


def test_one_screen_and_the_same_as_json(capsys):
    assert main(["doctor", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert len(lines) <= 24 and all(len(line) <= 80 or " " not in line.strip() for line in lines)
    assert PLAIN in shown and "--tier smoke --precision fp32" in shown
    assert "cifar10: " in shown and "invoke data --dataset cifar10" in " ".join(shown.split())
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["ways"]) == [PLAIN] and found["ways"][PLAIN]["milliseconds"] > 0
    assert found["environment"] is None and found["trouble"] is None
    seconds = found["device_seconds_of_tables"]
    assert list(seconds) == list(TIERS)
    assert all(0 < seconds["smoke"][str(table)] < seconds["paper"][str(table)] for table in paper.TABLES)


def test_a_table_takes_what_a_dry_run_of_it_says(put, monkeypatch):
    """From the same records, and without any from the same iteration."""
    planned = plan(paper.rows(1), "pocket", [0])
    iteration = costs.of_iterations(planned[0], "none", "fp32", 0.5)
    monkeypatch.setattr(doctor, "device_name", lambda device: "none")
    for results in (put(1, "original", (), "pocket"), put(2, "164-original", (10.0,), "pocket")):
        monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(results))
        said = costs.left(planned, "none", "fp32", results, timed=lambda run: 0.5)
        source, seconds = doctor.tables("cpu", "fp32", iteration)
        assert f"about {costs.duration(seconds['pocket']['1'])} of none" in said
        assert ("finished runs" in source) == ("finished runs" in said)


def test_a_machine_on_which_nothing_trains_ends_with_a_status(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "Step", lambda *_: 1 / 0)
    assert main(["doctor", "--device", "cpu"]) == 2
    out = capsys.readouterr()
    assert "division by zero" in out.out and "no iteration could be taken on cpu: division by zero" in out.err


def test_a_full_disk_ends_with_a_status(capsys, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: SimpleNamespace(free=2**20))
    assert main(["doctor", "--device", "cpu"]) == 2
    assert "1 MiB free; records and checkpoints need 1 GiB" in capsys.readouterr().err


@pytest.mark.parametrize("capability, precision", [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_what_a_gpu_is_told_to_begin_with(monkeypatch, capability, precision):
    monkeypatch.setattr(environment.torch.cuda, "get_device_capability", lambda device: capability)
    assert doctor.suggestion("cuda") == ("quick", precision)
