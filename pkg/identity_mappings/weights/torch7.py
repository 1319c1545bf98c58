"""A reader for the files of Torch7 (`torch.save` of Lua, binary, 64-bit): tables, modules and tensors as plain data.

Why one of our own, and not a library: PyTorch dropped its reader with 1.0, OpenCV its importer with 5.0, and the
package torchfile had its last release in 2017, reads C longs of the machine's own size, and so fails on Windows. The
format is frozen. Functions in a file are passed over; nothing of it is ever run.
"""

import struct
from dataclasses import dataclass, field

import numpy as np

from ..errors import UsageError

NIL, NUMBER, STRING, TABLE, OBJECT, BOOLEAN = range(6)
FUNCTIONS = (6, 7, 8)

TYPES = {"Byte": "u1", "Char": "i1", "Short": "<i2", "Int": "<i4", "Long": "<i8", "Half": "<f2", "Float": "<f4"}
TYPES |= {"Double": "<f8"}
TYPES |= {f"Cuda{name}": dtype for name, dtype in TYPES.items()} | {"Cuda": "<f4"}


@dataclass(eq=False)
class Module:
    """An object of a Lua class: its name and its fields."""

    name: str
    fields: dict = field(default_factory=dict)

    def __getitem__(self, key):
        return self.fields.get(key)

    @property
    def children(self):
        """The modules of a container, in order."""
        listed = self["modules"] or {}
        return [listed[index] for index in range(1, len(listed) + 1)]


def load(path):
    """The object in the file: None, number, str, bool, dict, Module or array. Raises UsageError for what is none."""
    try:
        with open(path, "rb") as file:
            return Reader(file.read()).object()
    except FileNotFoundError:
        raise UsageError(f"no weights at {path}: give the path of a Torch7 file") from None
    except (OSError, struct.error, ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UsageError(f"{path} must be a binary 64-bit Torch7 file; it cannot be read ({error!r})") from error


class Reader:
    """Reads one object from bytes. What occurs twice in the file is one object here too."""

    def __init__(self, content):
        self.content, self.position, self.known = content, 0, {}

    def take(self, count):
        if not 0 <= count <= len(self.content) - self.position:
            raise ValueError(f"it ends within {count} bytes at {self.position}")
        self.position += count
        return self.content[self.position - count : self.position]

    def number(self, code):
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self):
        return self.take(self.number("i")).decode("latin-1")

    def object(self):
        kind = self.number("i")
        if kind == NIL:
            return None
        if kind == NUMBER:
            value = self.number("d")
            return int(value) if value.is_integer() else value
        if kind == STRING:
            return self.string()
        if kind == BOOLEAN:
            return self.number("i") == 1
        if kind not in (TABLE, OBJECT, *FUNCTIONS):
            raise ValueError(f"unknown type {kind}")
        index = self.number("i")
        if index not in self.known:
            {TABLE: self.table, OBJECT: self.instance}.get(kind, self.function)(index)
        return self.known[index]

    def table(self, index):
        table = self.known[index] = {}
        for _ in range(self.number("i")):
            key = self.object()
            table[id(key) if isinstance(key, dict) else key] = self.object()

    def function(self, index):
        self.known[index] = None
        self.string()  # its code
        self.object()  # what it closes over

    def instance(self, index):
        name = self.string()
        if name.startswith("V "):  # older files have the name at once, without a version before it
            name = self.string()
        kind = name.removeprefix("torch.")
        if kind.removesuffix("Storage") in TYPES and kind.endswith("Storage"):
            dtype, count = np.dtype(TYPES[kind.removesuffix("Storage")]), self.number("q")
            self.known[index] = np.frombuffer(self.take(count * dtype.itemsize), dtype)
        elif kind.removesuffix("Tensor") in TYPES and kind.endswith("Tensor"):
            dimensions = self.number("i")
            shape, strides = ([self.number("q") for _ in range(dimensions)] for _ in range(2))
            offset, storage = self.number("q") - 1, self.object()
            self.known[index] = _view(storage, shape, strides, offset, TYPES[kind.removesuffix("Tensor")])
        else:
            module = self.known[index] = Module(name)
            fields = self.object()
            module.fields = fields if isinstance(fields, dict) else {}


def _view(storage, shape, strides, offset, dtype):
    """The tensor of that shape in a storage; strides, offset in elements. Raises ValueError where it lies outside."""
    if storage is None or not shape:
        return np.empty(0, dtype)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if min(*shape, 1) < 1 or min(*strides, offset) < 0 or last >= len(storage):
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {len(storage)}")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)
