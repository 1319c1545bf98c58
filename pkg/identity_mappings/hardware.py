"""The machine under a run: its cores, its device by name, and the settings that make the device exact."""

import os
import platform

import torch

from . import environment
from .errors import UsageError, choose


def cores():
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device):
    """The device as a record names it."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as file:
            models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return models[0] if models else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def resolve_device(device):
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda". Raises UsageError for a CUDA device that is not there."""
    choose(device, ("auto", "cpu", "cuda"), "device")
    environment.prepare()
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UsageError("device cuda needs a CUDA device that torch can use; got none: use --device cpu")
    return ("cuda" if available else "cpu") if device == "auto" else device


def be_exact(device):
    """fp32 means fp32: no TF32 in convolutions or matrix products, and no algorithm chosen by a timing."""
    if device != "cpu":
        environment.prepare()
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
