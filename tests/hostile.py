"""The readers of files that may come from elsewhere, and damaged and hostile files for them, made by number.

One class for each reader: `make` gives a file's content for a random stream, `read` reads what lies at `path`.
"""

import io
import json
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "weights"), str(HERE.parent / "pkg")]

from test_foreign import Writer, facebook_cifar, small  # noqa: E402

from identity_mappings import UsageError, cifar_resnet, weights  # noqa: E402
from identity_mappings.data import cifar  # noqa: E402
from identity_mappings.machines import contributions  # noqa: E402
from identity_mappings.results import soundness  # noqa: E402
from identity_mappings.weights import files, foreign  # noqa: E402

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**15, 2**24, 2**28, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
VALUES = (
    *NUMBERS,
    3.5,
    1e308,
    float("nan"),
    float("inf"),
    True,
    False,
    None,
    "",
    "text",
    "\x00",
    [],
    {},
    [[]],
    {"a": 1},
)


# --- bytes


def damaged(content, rng):
    """The content with a few of its bytes changed, cut, doubled or moved."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(content) + 1)
        if rng.random() < 0.5:  # near the start, where headers are
            place = min(place, int(rng.expovariate(1 / 200)))
        some = slice(place, place + int(rng.expovariate(1 / 8)) + 1)
        kind = rng.randrange(7)
        if kind == 0 and place < len(content):
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1 and place < len(content):
            content[place] = rng.randrange(256)
        elif kind == 2:
            code = rng.choice("bhiqd")
            size = struct.calcsize(code)
            number = rng.choice(NUMBERS)
            packed = struct.pack("<d", number) if code == "d" else (number % 2 ** (8 * size)).to_bytes(size, "little")
            content[place : place + size] = packed
        elif kind == 3:
            del content[some]
        elif kind == 4:
            content[place:place] = content[some]
        elif kind == 5:
            content[place:place] = rng.randbytes(some.stop - some.start)
        elif rng.random() < 0.3:
            del content[place:]
    return bytes(content)


def rezipped(content, rng, damage=damaged):
    """A zip file with one member damaged and all checksums right; the smaller a member, the likelier."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry, archive.read(entry)) for entry in archive.infolist()]
    chosen = rng.choices(range(len(members)), [1 / (1 + len(data)) for _, data in members])[0]
    if rng.random() < 0.5:
        chosen = next((k for k, (entry, _) in enumerate(members) if entry.filename.endswith("data.pkl")), chosen)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for k, (entry, data) in enumerate(members):
            archive.writestr(entry, damage(data, rng) if k == chosen else data)
    return packed.getvalue()


# --- trees of plain values


def places(value, path=()):
    """The path of every value inside a tree of dicts, lists and tuples."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def replaced(value, path, change):
    """A copy of the tree with `change` made to the value at that path; None for its key removes it."""
    if not path:
        return change(value)
    key, *rest = path
    if isinstance(value, dict):
        return {k: replaced(v, rest, change) if k == key else v for k, v in value.items()}
    return type(value)(replaced(v, rest, change) if k == key else v for k, v in enumerate(value))


def altered(tree, rng, values):
    """The tree with one of its values replaced, removed or put in another's place."""
    found = list(places(tree))
    path = rng.choice(found)
    if rng.random() < 0.3:
        other = tree
        for key in rng.choice(found):
            other = other[key]
        return replaced(tree, path, lambda _: other)
    return replaced(tree, path, lambda value: rng.choice(values))


def times(change, value, rng):
    """The value changed once or a few times."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        value = change(value, rng)
    return value


# --- one class a reader: how a file is made, and how it is read


class Safetensors:
    """Files of this library: damaged; or altered and sealed anew, as one who means harm would."""

    def __init__(self, folder):
        self.path = folder / "x.safetensors"
        images = {"dataset": "cifar10", "mean": [0.5] * 3, "std": [0.2] * 3}
        weights.save(self.path, cifar_resnet(8, widths=(2, 3, 4), seed=0), {"seed": 0, "precision": "fp32"}, images)
        self.content = self.path.read_bytes()
        self.metadata, tensors = files._read(self.path)
        self.tensors = {key: tensor.clone() for key, tensor in tensors.items()}  # those lie in the file, which changes

    def make(self, rng):
        if rng.random() < 0.3:
            return damaged(self.content, rng)
        size = struct.unpack("<Q", self.content[:8])[0]
        if rng.random() < 0.3:
            header = times(lambda h, rng: altered(h, rng, VALUES), json.loads(self.content[8 : 8 + size]), rng)
            text = json.dumps(header).encode()
            return struct.pack("<Q", len(text)) + text + self.content[8 + size :]
        metadata, tensors = dict(self.metadata), dict(self.tensors)
        if rng.random() < 0.7:
            key = rng.choice(("network", "images", "record", "bn_eps"))
            value = times(lambda v, rng: altered(v, rng, VALUES), json.loads(metadata[key]), rng)
            metadata[key] = json.dumps(value) if rng.random() < 0.9 else "[" * 200_000
        if rng.random() < 0.5:
            key = rng.choice(list(tensors))
            tensors[key] = rng.choice(SAFE)
        metadata["digest"] = files.digest(tensors, metadata)
        return files._safetensors().torch.save(tensors, metadata)

    def read(self):
        weights.load(self.path)


SAFE = (
    torch.zeros(()),
    torch.zeros(0),
    torch.zeros(3, dtype=torch.int64),
    torch.zeros(3, dtype=torch.bool),
    torch.zeros(3, dtype=torch.complex64),
    torch.full((3,), float("nan")),
    torch.zeros(3, dtype=torch.float64),
    torch.zeros(3, dtype=torch.bfloat16),
    torch.zeros(3, dtype=torch.float8_e4m3fn),
)


class Pytorch:
    """Checkpoints of PyTorch, zipped or of the form before: damaged, inside and out, or with strange tensors."""

    def __init__(self, folder):
        self.path, self.tensors = folder / "x.th", small()
        shared = torch.zeros(64, 64, 3, 3)
        self.strange = (
            *SAFE,
            torch.zeros(1).expand(2**33),
            torch.zeros(1).expand(2**28, 64),
            torch.zeros(4, 4, device="meta"),
            torch.eye(16).to_sparse(),
            torch.eye(16).to_sparse_csr(),
            torch.quantize_per_tensor(torch.ones(16), 0.1, 0, torch.qint8),
            torch.nn.Parameter(torch.zeros(16)),
            torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
            shared,
            shared[:16, :3],
            {},
            {"weight": torch.zeros(1)},
            None,
            7,
            "text",
            torch.Size([1]),
        )

    def make(self, rng):
        tensors = dict(self.tensors)
        if rng.random() < 0.5:
            for _ in range(rng.choice((1, 2))):
                tensors[rng.choice(list(tensors))] = rng.choice(self.strange)
        content = rng.choice((tensors, {"state_dict": tensors}, {"net": tensors, "acc": 1.0}, list(tensors), None))
        file, zipped = io.BytesIO(), rng.random() < 0.5
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        if rng.random() < 0.2:
            return file.getvalue()
        return rezipped(file.getvalue(), rng) if zipped and rng.random() < 0.7 else damaged(file.getvalue(), rng)

    def read(self):
        foreign.load(self.path, "akamaster", 8)


class Torch7:
    """Files of Torch7: damaged, or written whole from a tree of modules that has been altered."""

    def __init__(self, folder):
        self.path, self.tree = folder / "x.t7", facebook_cifar(1, (2, 3, 4))
        self.content = Writer("Float").write(self.tree).content()

    def make(self, rng):
        if rng.random() < 0.5:
            return damaged(self.content, rng)
        values = (*VALUES, np.zeros(0, np.float32), np.full(3, np.nan, np.float32), np.zeros((2, 2), np.float32))
        tree = times(lambda t, rng: altered(t, rng, [v for v in values if v is not None]), self.tree, rng)
        try:
            return Writer(rng.choice(("Float", "Double", "Byte", "Half"))).write(tree).content()
        except (TypeError, AttributeError, IndexError, OverflowError, ValueError, KeyError):
            return damaged(self.content, rng)  # no tree that could be written

    def read(self):
        foreign.load(self.path, "torch7")


class Npz:
    """Archives of images, which here are few: damaged, inside and out, or of other arrays."""

    def __init__(self, folder):
        self.path, cifar.COUNTS = folder / "cifar10.npz", {"train": 20, "test": 10}
        images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
        labels = np.arange(20) % 10
        self.arrays = {"x_train": images, "y_train": labels, "x_test": images[:10], "y_test": labels[:10]}

    def make(self, rng):
        arrays = dict(self.arrays)
        strange = (
            np.zeros(20),
            np.zeros(20, complex),
            np.full(20, np.nan),
            np.full(20, 2**62),
            np.zeros(20, bool),
            np.array(["a"] * 20),
            np.array([{}] * 20, dtype=object),
            np.zeros((), np.uint8),
            np.zeros((20, 1), np.int64),
            np.zeros((20, 32, 32, 3), np.float32),
            np.zeros(20, [("a", np.int8)]),
            np.zeros(20, "datetime64[s]"),
        )
        if rng.random() < 0.4:
            arrays[rng.choice(list(arrays))] = rng.choice(strange)
        file = io.BytesIO()
        rng.choice((np.savez, np.savez_compressed))(file, **arrays)
        return rng.choice((rezipped, damaged, damaged))(file.getvalue(), rng)

    def read(self):
        cifar.load("cifar10", self.path.parent)


class Contribution:
    """Contributed runs: damaged; or with values altered and all sums made right, as a forger would."""

    def __init__(self, folder):
        self.path, self.results = folder / "contribution.jsonl", folder / "results"
        committed = (HERE.parent / "results").rglob("seed-*.json")
        self.records = [
            json.loads(path.read_text()) for path in sorted(committed, key=lambda path: path.stat().st_size)[:3]
        ]

    def make(self, rng):
        made = [dict(record) for record in self.records]
        if rng.random() < 0.7:
            number = rng.randrange(len(made))
            made[number] = times(lambda record, rng: altered(record, rng, VALUES), made[number], rng)
        lines = [{"contribution": 1, "by": "Mallory", "records": len(made)}]
        for record in made:
            if isinstance(record, dict):
                record["digest"] = soundness.digest(record)
                lines.append({"sha256": soundness.digest(record), "record": record})
        if rng.random() < 0.2:
            lines = times(lambda lines, rng: altered(lines, rng, VALUES), lines, rng)
        content = "".join(json.dumps(line) + "\n" for line in (lines if isinstance(lines, list) else [lines])).encode()
        return damaged(content, rng) if rng.random() < 0.3 else content

    def read(self):
        for received in contributions.receive(self.path, self.results, keep=False):
            assert received.state in ("added", "known", "refused")
            if received.state == "refused":
                raise UsageError(str(received))


READERS = {"safetensors": Safetensors, "pytorch": Pytorch, "torch7": Torch7, "npz": Npz, "contribution": Contribution}
