"""What a run's numbers on a CUDA device depend on beside its recipe; checkpoint and record keep it."""

import os
import subprocess

import torch

from .errors import UsageError

BF16 = (8, 0)  # compute capability: below it cuDNN has no convolutions in bf16, and an image at a time is convolved


def prepare():
    """What CUDA reads of the environment when it starts, and so before anything asks for a device.

    A workspace of cuBLAS that does not depend on the other streams, for equal bits; and as many queues to the device as
    there are streams, for runs at once.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")


def of(device, way):
    """{"gpu", "capability", "driver", "cuda", "cudnn", "torch", "way"} of a CUDA device, as words; None on a CPU."""
    if device == "cpu":
        return None
    return {
        "gpu": torch.cuda.get_device_name(device),
        "capability": "{}.{}".format(*torch.cuda.get_device_capability(device)),
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()),
        "torch": torch.__version__,
        "way": way,
    }


def driver():
    """The version of NVIDIA's driver, None where its tool is not there to tell."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def changes(before, now):
    """In words, what differs between two of `of`; empty where nothing does."""
    return ", ".join(
        f"{name} {before.get(name)} before, {now[name]} now" for name in now if before.get(name) != now[name]
    )


def half(device):
    """The precision of two bytes in which a device computes: "bf16", or "fp16" where that is a loop over images."""
    return "bf16" if device == "cpu" or torch.cuda.get_device_capability(device) >= BF16 else "fp16"


def suits(precision, device):
    """Raises UsageError for a precision in which this device does not compute."""
    if device == "cpu" or not precision.startswith("bf16"):
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < BF16:
        name, found = torch.cuda.get_device_name(device), "{}.{}".format(*capability)
        raise UsageError(
            f"precision {precision} needs a GPU of compute capability 8.0 or higher; got {name}, {found}: "
            f"use --precision fp16 or fp32"
        )


def wait(device):
    """Return when the device has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def alive(device):
    """Whether the process can still use the device: after an error on it, often nothing can."""
    if device == "cpu":
        return True
    try:
        torch.cuda.synchronize(device)
        return True
    except RuntimeError:
        return False
