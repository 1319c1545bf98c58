"""What every reader of weights shares: a file that is one, tensors that a network can take, and the network of them.

A file may come from a stranger, or from a disk that fails. Its readers differ; what they give is held to the same
rules here, and no memory is taken for a network before the file is known to hold all of its values.
"""

import hashlib
from pathlib import Path

import torch

from ..errors import UsageError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
COUNT = "num_batches_tracked"  # BN's only whole number; evaluation does not read it


def existing(path, kind):
    """`path` as a Path. Raises UsageError unless a file lies there: a folder, a pipe or a device is no `kind`."""
    path = Path(path)
    if not path.is_file():
        what = "it is no file" if path.exists() else "there is nothing"
        raise UsageError(f"no weights at {path} ({what}): give the path of {kind}")
    return path


def sha256(path):
    """The SHA-256 of a file in hexadecimal, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(tensors, source):
    """The tensors by name, if a network can take them: dense floats on the CPU, finite, in memory of their own.

    Memory of their own: none shows a value twice and no two share one, so that all of them are no larger than what the
    file holds. BN's count of batches may be a whole number. Raises UsageError for any other, naming it.
    """
    for name, tensor in tensors.items():
        if not name.isprintable():
            raise UsageError(f"{source}: the name of a tensor must be text on one line; got {name[:40]!r}")
        if fault := _fault(name, tensor):
            raise UsageError(f"{source}: {name} must be a dense tensor of finite real numbers; {fault}")
    held = [tensor for tensor in tensors.values() if tensor.numel()]
    places = sorted((tensor.data_ptr(), tensor.data_ptr() + _span(tensor) * tensor.element_size()) for tensor in held)
    if any(end > start for (_, end), (start, _) in zip(places, places[1:], strict=False)):
        raise UsageError(f"{source}: two of its tensors share memory; each must have values of its own")
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _fault(name, tensor):
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout != torch.strided or tensor.is_nested:
        return f"it is {getattr(tensor, 'layout', type(tensor).__name__)}"
    if tensor.is_meta or tensor.device.type != "cpu":
        return f"it has no values (device {tensor.device})"
    if tensor.dtype not in FLOATS and not (name.endswith(COUNT) and tensor.dtype == torch.int64):
        return f"it is of {tensor.dtype}"
    if _span(tensor) < tensor.numel():
        return f"its shape {tuple(tensor.shape)} shows the same values more than once"
    if not tensor.isfinite().all():
        return "it holds NaN or infinity"
    if name.rpartition(".")[2] == "running_var" and bool((tensor < 0).any()):
        return "a variance of it is negative"
    return None


def _span(tensor):
    """The number of values from the tensor's first to its last in memory."""
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def outline(spec, tensors, source):
    """The spec's network without memory, on the meta device.

    Raises UsageError, before anything is built, where the file has fewer tensors than the network has layers, or fewer
    values in all than one layer has channels: sizes are the file's word, and it may say anything.
    """
    values = sum(tensor.numel() for tensor in tensors.values())
    widest = max(*spec.widths, spec.classes, spec.channels)
    if spec.depth > len(tensors) or widest > values:
        raise UsageError(
            f"{source} does not hold the tensors of {spec}: it has {len(tensors)} tensors with {values:,} values, for "
            f"{spec.depth:,} layers of up to {widest:,} channels"
        )
    with torch.device("meta"):
        return spec.build()


def filled(spec, tensors, source):
    """The spec's network with copies of `tensors`, by name. Raises UsageError unless names and shapes are its own."""
    network = outline(spec, tensors, source)
    expected = network.state_dict()
    absent, unknown = ([k for k in a if k not in b] for a, b in ((expected, tensors), (tensors, expected)))
    other = [key for key in expected if key in tensors and expected[key].shape != tensors[key].shape]
    if absent or unknown or other:
        faults = [
            f"{len(names)} {what} ({names[0]}, ...)" if len(names) > 1 else f"{what} {names[0]}"
            for what, names in (("missing", absent), ("unexpected", unknown))
            if names
        ]
        faults += [f"{key} is {tuple(tensors[key].shape)}, not {tuple(expected[key].shape)}" for key in other[:1]]
        raise UsageError(f"{source} does not hold the tensors of {spec}: {'; '.join(faults)}")
    network = network.to_empty(device="cpu")
    network.load_state_dict(tensors)
    return network
