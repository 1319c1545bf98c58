"""How fast a core turns ImageNet-sized JPEGs into training crops: torchvision's ways and this library's, in one run.

python book/measure_loader.py book/loader.json

The pictures are drawn, about as large as ImageNet's, which is not here. Each way reads, decodes, jitters the scale
between 256 and 480, cuts out 224x224 and flips; what ends as uint8 is normalised later, on the device. Counted is the
processor time of one thread, so that what else the machine does is left out.
"""

import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from torchvision import transforms
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "pkg"))

from identity_mappings.data import crops, drawn, imagenet, jpeg  # noqa: E402
from identity_mappings.data.pictures import Pictures  # noqa: E402
from identity_mappings.experiments.protocols import IMAGENET  # noqa: E402
from identity_mappings.training.loop import device_name  # noqa: E402

PICTURES, ROUNDS, SIDES = 60, 5, (333, 500)  # most of ImageNet's are 500 pixels by 375 or so


class Jitter(torch.nn.Module):
    """Resizes to a shorter side between 256 and 480."""

    def __init__(self, resize):
        super().__init__()
        self.resize = resize

    def forward(self, x):
        return self.resize(x, [int(torch.randint(IMAGENET.shorter[0], IMAGENET.shorter[1] + 1, (1,)))])


def ways(root):
    """name -> a function that loads the k-th picture."""
    normalised = IMAGENET.mean, IMAGENET.std
    crop = [transforms.RandomCrop(224), transforms.RandomHorizontalFlip()]
    pillow = [Jitter(transforms.functional.resize), *crop, transforms.ToTensor(), transforms.Normalize(*normalised)]
    folder = torchvision.datasets.ImageFolder(root, transforms.Compose(pillow))
    on_tensors = v2.Compose(
        [
            Jitter(partial(v2.functional.resize, antialias=True)),
            v2.RandomCrop(224),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*normalised),
        ]
    )
    paths = [path for path, _ in folder.samples]
    _, files = imagenet.by_class(root)
    ours = Pictures(files, IMAGENET).batches(IMAGENET, 0)

    def whole(k):
        picture, random = jpeg.Picture(paths[k]), crops.drawn_for(0, 0, k)
        side = random.randint(IMAGENET.shorter[0], IMAGENET.shorter[1] + 1)
        return picture.whole(crops.resized(picture.height, picture.width, side))[:224, :224]

    def with_pillow(k):
        found, jpeg.decoder = jpeg.decoder, lambda: None
        try:
            return ours.load(k)
        finally:
            jpeg.decoder = found

    return {
        "torchvision: ImageFolder, transforms on Pillow's pictures": lambda k: folder[k],
        "torchvision: decode_jpeg, v2 transforms on tensors": lambda k: on_tensors(
            torchvision.io.decode_image(paths[k], torchvision.io.ImageReadMode.RGB)
        ),
        "simplejpeg, the whole picture resized": whole,
        "ours with Pillow: only the cut resized": with_pillow,
        "ours: simplejpeg, only the cut resized": ours.load,
    }


def main(out):
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        sizes = []
        for k in range(PICTURES):
            path = Path(root, f"class-{k % 10}", f"{k}.JPEG")
            path.parent.mkdir(exist_ok=True)
            drawn.draw(k % 10, np.random.RandomState(k), SIDES).save(path, quality=95)
            sizes.append(path.stat().st_size)
        loaders = ways(root)
        found = {name: [] for name in loaders}
        for load in loaders.values():
            load(0)
        for _ in range(ROUNDS):
            spent = dict.fromkeys(loaders, 0.0)
            for k in range(PICTURES):  # the ways in turn, picture by picture: what disturbs one disturbs all
                for name, load in loaders.items():
                    before = time.process_time()
                    load(k)
                    spent[name] += time.process_time() - before
            for name, seconds in spent.items():
                found[name].append(round(PICTURES / seconds, 1))
    baseline = next(iter(found.values()))
    outcome = {
        "device": device_name("cpu"),
        "pictures": PICTURES,
        "rounds": ROUNDS,
        "kilobytes": round(sum(sizes) / len(sizes) / 1000, 1),
        "versions": {"torchvision": torchvision.__version__, "Pillow": PIL.__version__, "decoder": jpeg.name()},
        "images_per_second_per_core": found,
        "ratio": {name: [round(a / b, 2) for a, b in zip(each, baseline, strict=True)] for name, each in found.items()},
    }
    Path(out).write_text(json.dumps(outcome, indent=1) + "\n")
    print(json.dumps(outcome["ratio"], indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
