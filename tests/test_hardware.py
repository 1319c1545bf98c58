"""The machine under a run, asked for by what a user writes."""

import pytest
import torch

from identity_mappings import UsageError
from identity_mappings.hardware import cores, device_name, resolve_device


@pytest.mark.parametrize("available", [False, True])
def test_auto_is_cuda_where_there_is_one(monkeypatch, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto") == ("cuda" if available else "cpu")
    assert resolve_device("cpu") == "cpu"


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="got none: use --device cpu"):
        resolve_device("cuda")
    with pytest.raises(UsageError, match="device must be one of: .*got 'gpu'"):
        resolve_device("gpu")


def test_this_machine():
    assert cores() >= 1
    assert device_name("cpu")
