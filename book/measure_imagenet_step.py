"""How long a core takes for a training step of Table 5's nets, forward, backward and update, on crops of 224x224.

python book/measure_imagenet_step.py book/imagenet-step.json

Four drawn pictures are a batch here: a core takes about as long for each image of 32. Counted is the processor time of
one thread, in float32, the loader's included.
"""

import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pkg"))

from identity_mappings.experiments import paper  # noqa: E402
from identity_mappings.training.imagenet import ImageNetState  # noqa: E402
from identity_mappings.training.loop import Clock, device_name  # noqa: E402

BATCH, STEPS = 4, 3


def seconds(recipe):
    """Processor seconds of each image, of STEPS steps after a first one."""
    state, found = ImageNetState(recipe, 0, "cpu", "fp32"), []
    state.speed_up(print)
    state.step()
    clock = Clock(state)
    for _ in range(STEPS):
        before = state.device_seconds
        state.step()
        clock.read()
        found.append(round((state.device_seconds - before) / BATCH, 3))
    return found


def main(out):
    torch.set_num_threads(1)
    found = {}
    for row in paper.rows(5):
        recipe = row.recipe()
        name = f"ResNet-{recipe.network.depth}"
        if name not in found:  # an order of activation costs what another does
            protocol = replace(recipe.protocol, batch=BATCH, bn_group=BATCH)
            found[name] = seconds(replace(recipe, dataset="drawn", protocol=protocol))
            print(name, statistics.median(found[name]), "seconds an image", flush=True)
    outcome = {"device": device_name("cpu"), "torch": torch.__version__, "batch": BATCH, "seconds_per_image": found}
    Path(out).write_text(json.dumps(outcome, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
