"""What doctor says of this machine, and of machines that lack something."""

import json
from types import SimpleNamespace

import pytest

from identity_mappings import environment
from identity_mappings.__main__ import main
from identity_mappings.experiments import paper
from identity_mappings.iteration.capture import PLAIN
from identity_mappings.machines import doctor


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path))
    monkeypatch.setattr(doctor, "SECONDS", 0.1)
    monkeypatch.setattr(doctor.examine, "__defaults__", (0.1,))


def test_one_screen_and_the_same_as_json(capsys):
    assert main(["doctor", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) <= 24 and max(map(len, shown.splitlines())) < 200
    assert PLAIN in shown and "--tier smoke --precision fp32" in shown
    assert "cifar10: " in shown and "invoke data --dataset cifar10" in shown
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["ways"]) == [PLAIN] and found["ways"][PLAIN]["milliseconds"] > 0
    assert found["environment"] is None and found["trouble"] is None
    assert set(found["seconds_of_tables"]) == set(map(str, paper.TABLES))
    assert all(0 < each["one_seed"] < each["paper"] for each in found["seconds_of_tables"].values())


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
