"""A reader for the files of Torch7 (`torch.save` of Lua, binary, 64-bit): tables, modules and tensors as plain data.

Why one of our own, and not a library: PyTorch dropped its reader with 1.0, OpenCV its importer with 5.0, and the
package torchfile had its last release in 2017, reads C longs of the machine's own size, and so fails on Windows. The
format is frozen. Functions in a file are passed over; nothing of it is ever run.
"""

import math
import struct
from dataclasses import dataclass, field

import numpy as np

from ..errors import UsageError
from .reading import existing

NIL, NUMBER, STRING, TABLE, OBJECT, BOOLEAN = range(6)
FUNCTION, INDEXED_FUNCTIONS = 6, (7, 8)  # a function of type 6 has no index: Torch7's own reader has none to read

TYPES = {"Byte": "u1", "Char": "i1", "Short": "<i2", "Int": "<i4", "Long": "<i8", "Half": "<f2", "Float": "<f4"}
TYPES |= {"Double": "<f8"}
TYPES |= {f"Cuda{name}": dtype for name, dtype in TYPES.items()} | {"Cuda": "<f4"}

OBJECTS = 3_000_000  # more than ten times what ResNet-1202 needs; a file of nothing but small objects ends here
DIMENSIONS = 32  # NumPy's own limit until 2.0
LARGEST = 2**24  # channels, classes, or values along a dimension of a tensor of weights


@dataclass(eq=False)
class Module:
    """An object of a Lua class: its name and its fields. The accessors raise ValueError for what has not their type."""

    name: str
    fields: dict = field(default_factory=dict)

    def __getitem__(self, key):
        return self.fields.get(key)

    @property
    def children(self):
        """The modules of a container, in order."""
        listed = self["modules"]
        found = [listed.get(k) for k in range(1, len(listed) + 1)] if isinstance(listed, dict) else [listed]
        if not all(isinstance(child, Module) for child in found):
            raise ValueError(f"the modules of its {self.name} must be a list of modules")
        return found

    def size(self, key, least=1, default=None):
        """The whole number, `least` or more, in a field; `default` where there is none."""
        value = self.fields.get(key, default)
        if type(value) is not int or not least <= value < LARGEST:
            wanted = f"a whole number from {least} to {LARGEST - 1}"
            raise ValueError(f"{key} of its {self.name} must be {wanted}; got {_shown(value)}")
        return value

    def array(self, key, dimensions=None):
        """The tensor in a field, of that many dimensions, None for any number."""
        value = self[key]
        fits = isinstance(value, np.ndarray) and max(value.shape) < LARGEST
        if not fits or dimensions not in (None, value.ndim):
            wanted = "a tensor" if dimensions is None else f"a tensor of {dimensions} dimensions"
            raise ValueError(f"{key} of its {self.name} must be {wanted}; got {_shown(value)}")
        return value


def _shown(value):
    """A value from a file in a few words."""
    if isinstance(value, np.ndarray):
        return f"one of shape {value.shape}"
    return repr(value)[:40] if isinstance(value, bool | int | float | str | None) else f"a {type(value).__name__}"


def load(path):
    """The object in the file: None, number, str, bool, dict, Module or array. Raises UsageError for what is none."""
    path = existing(path, "a Torch7 file")
    try:
        return Reader(path.read_bytes()).object()
    except (OSError, struct.error, ValueError, KeyError, TypeError, MemoryError, RecursionError) as error:
        raise UsageError(f"{path} must be a binary 64-bit Torch7 file; it cannot be read ({error!r})") from error


class Reader:
    """Reads one object from bytes. What occurs twice in the file is one object here too."""

    def __init__(self, content):
        self.content, self.position, self.known, self.left = content, 0, {}, OBJECTS

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
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"it holds more than {OBJECTS:,} objects")
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
        if kind == FUNCTION:
            return self.function()
        if kind not in (TABLE, OBJECT, *INDEXED_FUNCTIONS):
            raise ValueError(f"unknown type {kind}")
        index = self.number("i")
        if index not in self.known:
            {TABLE: self.table, OBJECT: self.instance}.get(kind, self.function)(index)
        return self.known[index]

    def table(self, index):
        table = self.known[index] = {}
        for _ in range(self.number("i")):
            key = self.object()
            if key is None:
                raise ValueError("a table with nil for a key")  # which Lua does not have
            table[id(key) if isinstance(key, dict) else key] = self.object()

    def function(self, index=None):
        if index is not None:
            self.known[index] = None
        self.string()  # its code
        self.object()  # what it closes over

    def instance(self, index):
        name = self.string()
        if name.startswith("V "):  # older files have the name at once, without a version before it
            name = self.string()
        if not name.isprintable():
            raise ValueError(f"a class of the name {name[:40]!r}")
        kind = name.removeprefix("torch.")
        if kind.removesuffix("Storage") in TYPES and kind.endswith("Storage"):
            dtype, count = np.dtype(TYPES[kind.removesuffix("Storage")]), self.number("q")
            self.known[index] = np.frombuffer(bytearray(self.take(count * dtype.itemsize)), dtype)
        elif kind.removesuffix("Tensor") in TYPES and kind.endswith("Tensor"):
            dimensions = self.number("i")
            if not 0 <= dimensions <= DIMENSIONS:
                raise ValueError(f"a tensor of {dimensions} dimensions")
            shape, strides = ([self.number("q") for _ in range(dimensions)] for _ in range(2))
            offset, storage = self.number("q") - 1, self.object()
            self.known[index] = _view(storage, shape, strides, offset, TYPES[kind.removesuffix("Tensor")])
        else:
            module = self.known[index] = Module(name)
            fields = self.object()
            if not isinstance(fields, dict):
                raise ValueError(f"a {name[:40]} without a table of fields")
            module.fields = fields


def _view(storage, shape, strides, offset, dtype):
    """The tensor of that shape in a storage; strides, offset in elements. Raises ValueError where it lies outside."""
    if storage is None or not shape:
        return np.empty(0, dtype)
    plain = isinstance(storage, np.ndarray) and storage.ndim == 1 and storage.flags.c_contiguous
    if not plain or storage.dtype != dtype:
        raise ValueError("a tensor without a storage of its type")  # another tensor may show one value many times
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if min(shape) < 1 or min(*strides, offset) < 0 or last >= len(storage) or math.prod(shape) >= 2**63:
        raise ValueError(f"a tensor of shape {shape} reaches beyond its storage of {len(storage)}")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps)
