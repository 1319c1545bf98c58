"""Weights in a file: safetensors, with the network's spec, its run's record and its normalisation as metadata.

save("net.safetensors", network, record)
network, about = load("net.safetensors")

The format holds tensors and text, no code: reading a file from elsewhere runs nothing of it.
"""

import json
from pathlib import Path

from ..errors import UsageError
from ..nets.networks import NetworkSpec, bn_eps, set_bn_eps
from ..results.records import write_atomically

FORMAT = "identity-mappings 1"
METADATA = ("record", "images", "bn_eps")  # each as JSON text, beside "format" and "network"


def save(path, network, record=None, images=None):
    """Write a network's weights to `path`, atomically, and what it takes to use them.

    record: the run record they come from. images: what evaluation does to images, as
    {"dataset": name, "normalisation": "pixel" or "channel"} or {"dataset": name, "mean": [...], "std": [...]} with a
    number a channel for values from 0 to 1; default: the record's, if there is one.
    """
    if images is None and record is not None:
        recipe = record["recipe"]
        kept = {key: recipe["protocol"][key] for key in ("normalisation", "mean", "std") if key in recipe["protocol"]}
        images = {"dataset": recipe["dataset"], **kept}
    about = {"record": record, "images": images, "bn_eps": bn_eps(network)}
    metadata = {"format": FORMAT, "network": json.dumps(network.spec.to_json())}
    metadata |= {key: json.dumps(about[key]) for key in METADATA}
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}
    write_atomically(Path(path), _safetensors().torch.save(tensors, metadata))


def load(path):
    """(network, about) of a file that `save` wrote: the network in evaluation mode, on the CPU; about: {"record": ...,
    "images": ...} as they were saved, None where nothing was.

    Raises UsageError, and builds nothing, for a file that is no safetensors, has no metadata of this library, or whose
    tensors are not exactly those of the network that its metadata describes.
    """
    metadata, tensors = _read(path)
    if metadata.get("format") != FORMAT:
        raise UsageError(
            f'{path} must name its format "{FORMAT}" in its metadata; got {metadata.get("format")!r}: '
            "weights of another library are read with --layout"
        )
    try:
        network = NetworkSpec.from_json(json.loads(metadata["network"])).build()
        about = {key: json.loads(metadata[key]) for key in METADATA}
        set_bn_eps(network, float(about.pop("bn_eps")))
    except (KeyError, TypeError, ValueError) as error:  # a UsageError is a ValueError
        raise UsageError(f"{path} has damaged metadata ({error}): write or fetch the file again") from error
    fill(network, tensors, path)
    return network.eval(), about


def fill(network, tensors, source):
    """Copy `tensors`, by name, into the network. Raises UsageError unless names and shapes are exactly its own."""
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
        raise UsageError(f"{source} does not hold the tensors of {network.spec}: {'; '.join(faults)}")
    network.load_state_dict(tensors)


def _read(path):
    library = _safetensors()
    try:
        with library.safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UsageError(f"no weights at {path}: give the path of a .safetensors file") from None
    except (OSError, ValueError, library.SafetensorError) as error:
        raise UsageError(
            f"{path} must be a safetensors file; it cannot be read ({error}): weights of another library are read "
            "with --layout"
        ) from error


def check_installed():
    """Raises UsageError where safetensors is not installed: better before a run than at its end."""
    _safetensors()


def _safetensors():
    try:
        import safetensors.torch
    except ImportError as error:
        raise UsageError("weights are kept as safetensors, which is not installed: pip install safetensors") from error
    return safetensors
