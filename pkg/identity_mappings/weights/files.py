"""Weights in a file: safetensors, with the network's spec, its run's record and its normalisation as metadata.

save("net.safetensors", network, record)
network, about = load("net.safetensors")

The format holds tensors and text, no code: reading a file from elsewhere runs nothing of it.
"""

import hashlib
import json
from pathlib import Path

import torch

from ..data import DATASETS
from ..errors import UsageError, choose, first_line, is_number
from ..nets.networks import NetworkSpec, bn_eps, set_bn_eps
from ..results.records import write_atomically
from .reading import checked, existing, filled

FORMAT = "identity-mappings 2"
FIRST_FORMAT = "identity-mappings 1"  # the same without a digest
METADATA = ("record", "images", "bn_eps")  # each as JSON text, beside "format", "network" and "digest"


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
    metadata["digest"] = digest(tensors, metadata)
    write_atomically(Path(path), _safetensors().torch.save(tensors, metadata))


def load(path):
    """(network, about) of a file that `save` wrote: the network in evaluation mode, on the CPU; about: {"record": ...,
    "images": ...} as they were saved, None where nothing was.

    Raises UsageError, and builds nothing, for a file that is no safetensors, has no metadata of this library, has
    changed since it was written, or whose tensors are not exactly those of the network that its metadata describes.
    """
    check_installed()
    metadata, tensors = _read(existing(path, "a .safetensors file"))
    if metadata.get("format") not in (FORMAT, FIRST_FORMAT):
        raise UsageError(
            f'{path} must name its format "{FORMAT}" in its metadata; got {metadata.get("format")!r}: '
            "weights of another library are read with --layout"
        )
    if metadata["format"] == FORMAT and metadata.get("digest") != digest(tensors, metadata):
        raise UsageError(f"{path} is damaged: its digest is not that of what it holds; write or fetch the file again")
    try:
        spec = NetworkSpec.from_json(json.loads(metadata["network"]))
        about = {key: json.loads(metadata[key]) for key in METADATA}
        eps = _checked(about, spec.channels).pop("bn_eps")
    except (KeyError, TypeError, ValueError, RecursionError) as error:  # a UsageError is a ValueError
        raise UsageError(f"{path} has damaged metadata ({error}): write or fetch the file again") from error
    network = filled(spec, checked(tensors, path), path)
    set_bn_eps(network, eps)
    return network.eval(), about


def digest(tensors, metadata):
    """SHA-256 in hexadecimal of tensors and metadata: names, types, shapes, bytes and text, whatever their order."""
    whole = hashlib.sha256()
    for key in sorted(metadata.keys() - {"digest"}):
        whole.update(json.dumps([key, metadata[key]]).encode())
    for key in sorted(tensors):
        tensor = tensors[key].contiguous()
        whole.update(json.dumps([key, str(tensor.dtype), list(tensor.shape)]).encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return whole.hexdigest()


def _checked(about, channels):
    """`about` as it is. Raises UsageError where a part of it is not of its type."""
    record, images, eps = (about[key] for key in METADATA)
    if not isinstance(record, dict | None):
        raise UsageError(f"record must be an object or null; got a {type(record).__name__}")
    if images is not None:
        check_images(images, channels)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise UsageError(f"bn_eps must be a number between 0 and 1; got {eps!r}")
    return about


def check_images(images, channels):
    """Raises UsageError unless `images` says how images of so many channels are normalised; see `save`."""
    given = images if isinstance(images, dict) else {}
    if not isinstance(given.get("dataset"), str | None):
        raise UsageError(f"dataset of a normalisation must be a name; got {given['dataset']!r}")
    if "normalisation" in given:
        choose(given["normalisation"], ("pixel", "channel"), "normalisation")
        choose(given.get("dataset"), DATASETS, "dataset of the mean")
        return
    for key in ("mean", "std"):
        values = given.get(key)
        if not isinstance(values, list) or len(values) != channels or not all(map(is_number, values)):
            raise UsageError(f"{key} must be {channels} numbers, one a channel, of values from 0 to 1; got {values!r}")
    if min(given["std"]) <= 0:
        raise UsageError(f"std must be above 0 for each channel; got {given['std']}")


def _read(path):
    library = _safetensors()
    try:
        with library.safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged file may fail anywhere in there, and the library promises no list of errors
        raise UsageError(
            f"{path} must be a safetensors file; it cannot be read ({first_line(error)}): "
            "weights of another library are read with --layout"
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
