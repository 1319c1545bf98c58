"""Checkpoints: a run's whole state in one file beside its record, replaced atomically, gone once that is there."""

import hashlib
import io
import pickle

import torch

from ..errors import UsageError
from ..results import records

LAYOUT = 3  # of the saved state: 3 has BN's weights at the end of the buffers, 2 had them where the network has them


def save(run, state, threads, environments=(), results=None):
    """Write the state to the run's checkpoint. environments: those of a CUDA run, as its record will have them."""
    saved = {
        "layout": LAYOUT,
        "recipe_hash": records.recipe_hash(run.recipe),
        "seed": run.seed,
        "precision": state.precision,
        "threads": threads,
        "environments": list(environments),
        "state": state.to_dict(),
    }
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    payload = buffer.getvalue()
    records.write_atomically(run.checkpoint_path(results), hashlib.sha256(payload).digest() + payload)


def read(run, precision, device, results=None):
    """The run's checkpoint as saved, or None where it has none; plain data only, code in it is never run.

    Raises UsageError for one that is damaged, of another recipe or precision, or of a release that laid its state out
    otherwise, and leaves it where it is.
    """
    path = run.checkpoint_path(results)
    if not path.exists():
        return None
    try:
        digest, payload = (content := path.read_bytes())[:32], content[32:]
        if hashlib.sha256(payload).digest() != digest:
            raise ValueError("its checksum does not match")
        saved = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
        found = saved["recipe_hash"], saved["seed"], saved["precision"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"{path} must be a checkpoint of this library; it cannot be read ({error}): "
            f"move it away, and the run starts anew"
        ) from error
    expected = records.recipe_hash(run.recipe), run.seed, precision
    if found != expected:
        raise UsageError(
            f"{path} is of another run: expected recipe {expected[0]}, seed {expected[1]}, {expected[2]}; "
            f"got {found[0]}, {found[1]}, {found[2]}: move it away to start anew, or train as it was begun"
        )
    if (layout := saved.get("layout", 1)) != LAYOUT:
        raise UsageError(
            f"{path} must be of layout {LAYOUT}; got layout {layout}, of another release: "
            f"end the run with the release that began it, or move the file away to start anew"
        )
    return saved
