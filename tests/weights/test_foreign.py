"""Other repositories' networks, restated here in plain code, against what the importer makes of their checkpoints."""

import io
import os
import re
import struct
import time
import tracemalloc
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from identity_mappings import ORDERS, UsageError, foreign
from identity_mappings.nets.networks import NetworkSpec, cifar_spec
from identity_mappings.weights import torch7, torch7_trees


def randomised(network, seed=0):
    """Random weights, and random BN statistics and affine parts so that no two channels are alike."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.data.uniform_(low, high, generator=generator)

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = (3 / module.weight[0].numel()) ** 0.5
            uniform(module.weight, -bound, bound)
        if isinstance(module, nn.Linear):
            uniform(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                uniform(tensor, low, low + 1)
            uniform(module.running_mean, -0.5, 0.5)
    return network.eval()


def conv(channels_in, channels, kernel, stride=1):
    return nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False)


def projection(channels_in, channels, stride):
    return nn.Sequential(conv(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))


class PadBothSides(nn.Module):
    def forward(self, x):
        quarter = x.shape[1] // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))


class Basic(nn.Module):
    """Two convolutions; the shortcut's module has the name that the repository gives it."""

    def __init__(self, channels_in, width, stride, name, change):
        super().__init__()
        self.conv1, self.bn1 = conv(channels_in, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3), nn.BatchNorm2d(width)
        changes = stride != 1 or channels_in != width
        self.add_module(name, change(channels_in, width, stride) if changes else nn.Sequential())
        self.side = name

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + getattr(self, self.side)(x))


class Bottleneck(nn.Module):
    def __init__(self, channels_in, width, stride, name, change):
        super().__init__()
        self.conv1, self.bn1 = conv(channels_in, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1), nn.BatchNorm2d(4 * width)
        changes = stride != 1 or channels_in != 4 * width
        self.downsample = change(channels_in, 4 * width, stride) if changes else nn.Sequential()

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class Sequenced(nn.Module):
    """weiaicunzai's unit: the residual function is one Sequential."""

    def __init__(self, channels_in, width, stride, name, change):
        super().__init__()
        parts = [conv(channels_in, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU()]
        self.residual_function = nn.Sequential(*parts, conv(width, width, 3), nn.BatchNorm2d(width))
        changes = stride != 1 or channels_in != width
        self.shortcut = change(channels_in, width, stride) if changes else nn.Sequential()

    def forward(self, x):
        return F.relu(self.residual_function(x) + self.shortcut(x))


class Plain(nn.Module):
    """A stem, stages of units, and a classifier, under a repository's names."""

    def __init__(self, unit, widths, count, classes, name, change, classifier="fc", stage="layer{}", sequenced=False):
        super().__init__()
        stem = conv(3, widths[0], 3), nn.BatchNorm2d(widths[0])
        self.stem = ("conv1",) if sequenced else ("conv1", "bn1")
        for key, module in zip(self.stem, (nn.Sequential(*stem),) if sequenced else stem, strict=True):
            self.add_module(key, module)
        channels, expansion = widths[0], 4 if unit is Bottleneck else 1
        self.stages = []
        for position, width in enumerate(widths, 1):
            units = []
            for k in range(count):
                units.append(unit(channels, width, 2 if k == 0 and position > 1 else 1, name, change))
                channels = expansion * width
            self.stages.append(stage.format(position + sequenced))
            self.add_module(self.stages[-1], nn.Sequential(*units))
        self.last = classifier
        self.add_module(classifier, nn.Linear(channels, classes))

    def forward(self, x):
        for key in self.stem:
            x = getattr(self, key)(x)
        x = F.relu(x)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        return getattr(self, self.last)(x.mean((2, 3)))


def pad(*_):
    return PadBothSides()


CIFAR, WIDE = (16, 32, 64), (64, 128, 256, 512)
NETWORKS = {
    "akamaster": (8, lambda: Plain(Basic, CIFAR, 1, 10, "shortcut", pad, "linear")),
    "akamaster at 20": (20, lambda: Plain(Basic, CIFAR, 3, 10, "shortcut", pad, "linear")),
    "bearpaw-resnet": (14, lambda: Plain(Basic, CIFAR, 2, 100, "downsample", projection)),
    "bearpaw-resnet at 164": (164, lambda: Plain(Bottleneck, CIFAR, 18, 10, "", projection)),
    "chenyaofo": (20, lambda: Plain(Basic, CIFAR, 3, 100, "downsample", projection)),
    "kuangliu-resnet18": (18, lambda: Plain(Basic, WIDE, 2, 10, "shortcut", projection, "linear")),
    "weiaicunzai-resnet18": (
        18,
        lambda: Plain(Sequenced, WIDE, 2, 100, "", projection, stage="conv{}_x", sequenced=True),
    ),
    "torchvision at 50": (50, torchvision.models.resnet50),
    "torchvision at 101": (101, torchvision.models.resnet101),
    "torchvision at 152": (152, torchvision.models.resnet152),
}


def same_logits(theirs, ours, size):
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, got = theirs(x), ours.double()(x)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # the images tell on the logits
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_the_foreign_networks(name, tmp_path):
    depth, make = NETWORKS[name]
    theirs, path = randomised(make()), tmp_path / "checkpoint.pth"
    torch.save(theirs.state_dict(), path)
    ours, about = foreign.load(path, name.partition(" ")[0], depth)
    assert not ours.training and about["record"] is None
    same_logits(theirs.double(), ours, 64 if "torchvision" in name else 32)


@pytest.mark.parametrize("crop", [224, pytest.param(320, marks=pytest.mark.slow)])
@pytest.mark.parametrize("depth", [50, 101, 152])
def test_logits_are_torchvisions_at_both_test_crops(depth, crop, tmp_path):
    _, make = NETWORKS[f"torchvision at {depth}"]
    theirs = randomised(make())
    torch.save(theirs.state_dict(), tmp_path / "checkpoint.pth")
    ours, _ = foreign.load(tmp_path / "checkpoint.pth", "torchvision", depth)
    image = torch.randn(1, 3, crop, crop, dtype=torch.float64, generator=torch.Generator().manual_seed(crop))
    with torch.no_grad():
        torch.testing.assert_close(ours.double()(image), theirs.double()(image), rtol=1e-10, atol=1e-10)


def small():
    return randomised(NETWORKS["akamaster"][1]()).state_dict()


def in_data_parallel(tensors):
    return {f"module.{key}": tensor for key, tensor in tensors.items()}


@pytest.mark.parametrize(
    "wrapped",
    [
        in_data_parallel,
        lambda tensors: {"state_dict": in_data_parallel(tensors), "epoch": 7, "best_prec1": 91.7},
        lambda tensors: {"net": tensors, "acc": 91.7},
        lambda tensors: {key: t for key, t in tensors.items() if "num_batches" not in key},  # of an old PyTorch
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappings_of_a_checkpoint(wrapped, zipped, tmp_path):
    torch.save(wrapped(small()), tmp_path / "plain.th", _use_new_zipfile_serialization=zipped)
    ours, _ = foreign.load(tmp_path / "plain.th", "akamaster", 8)
    theirs = NETWORKS["akamaster"][1]()
    theirs.load_state_dict(small())
    same_logits(theirs.eval().double(), ours, 32)


def test_the_normalisation_is_the_repositorys(tmp_path):
    torch.save(randomised(NETWORKS["chenyaofo"][1]()).state_dict(), tmp_path / "x.pth")
    _, about = foreign.load(tmp_path / "x.pth", "chenyaofo", 20, "cifar100")
    assert about["images"] == {"dataset": "cifar100", "mean": [0.5070, 0.4865, 0.4409], "std": [0.2673, 0.2564, 0.2761]}


def without(tensors, key):
    return {k: tensor for k, tensor in tensors.items() if k != key}


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda t: without(t, "layer2.0.conv1.weight"), "missing units.1.residual.0.weight"),
        (lambda t: t | {"layer4.0.conv1.weight": torch.zeros(1)}, "unexpected layer4.0.conv1.weight"),
        (lambda t: t | {"layer1.0.bn1.bias": torch.zeros(17)}, r"units.0.residual.1.bias is \(17,\), not \(16,\)"),
        (lambda t: t | {"layer1.0.conv1.bias": torch.zeros(16)}, "unexpected units.0.residual.0.bias"),
        (lambda t: without(t, "linear.weight"), "has not the layout of .*akamaster.*choose another --layout"),
        (lambda t: {"weights": [1, 2]}, "must hold a state_dict"),
        (lambda t: [1, 2], "must hold a state_dict"),
    ],
)
def test_what_does_not_fit_is_refused(spoil, message, tmp_path):
    torch.save(spoil(small()), tmp_path / "x.th")
    with pytest.raises(UsageError, match=message) as refusal:
        foreign.load(tmp_path / "x.th", "akamaster", 8)
    assert "\n" not in str(refusal.value)


def test_another_depth_is_refused(tmp_path):
    torch.save(small(), tmp_path / "x.th")
    with pytest.raises(UsageError, match="does not hold the tensors of ResNet-20, original: 60 missing"):
        foreign.load(tmp_path / "x.th", "akamaster", 20)
    with pytest.raises(UsageError, match="needs the network's depth"):
        foreign.load(tmp_path / "x.th", "akamaster")


def with_tensor(change, key="layer1.0.bn1.weight"):
    return lambda tensors: tensors | {key: change(tensors[key])}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.to_sparse(), "it is torch.sparse_coo"),
        (lambda t: torch.eye(16).to_sparse_csr(), "it is torch.sparse_csr"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "it is of torch.qint8"),
        (lambda t: t.to("meta"), r"it has no values \(device meta\)"),
        (lambda t: t.to(torch.int64), "it is of torch.int64"),
        (lambda t: t.to(torch.uint8), "it is of torch.uint8"),
        (lambda t: t > 0, "it is of torch.bool"),
        (lambda t: t + 1j, "it is of torch.complex64"),
        (lambda t: t * float("nan"), "it holds NaN or infinity"),
        (lambda t: t * float("inf"), "it holds NaN or infinity"),
        (lambda t: t[:1].expand(16), r"its shape \(16,\) shows the same values more than once"),
        (lambda t: t[:1].expand(2**40), r"its shape \(1099511627776,\) shows the same"),
        (lambda t: t.as_strided((8, 8), (1, 1)), r"its shape \(8, 8\) shows the same"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_tensors_that_are_no_weights_are_refused(change, message, zipped, tmp_path):
    torch.save(with_tensor(change)(small()), tmp_path / "x.th", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=f"layer1.0.bn1.weight must be a dense tensor .*; {message}") as refusal:
        foreign.load(tmp_path / "x.th", "akamaster", 8)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_weights(dtype, tmp_path):
    tensors = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in small().items()}
    torch.save(tensors, tmp_path / "x.th")
    network, _ = foreign.load(tmp_path / "x.th", "akamaster", 8)
    assert torch.equal(network.stem[0].weight, tensors["conv1.weight"].float())


def test_classes_are_not_believed(tmp_path):
    """A checkpoint of 300 KB whose classifier says that it has 2^28 classes."""
    torch.save(with_tensor(lambda t: t[:1].expand(2**28, 64), "linear.weight")(small()), tmp_path / "x.th")
    with pytest.raises(UsageError, match="linear.weight must be .*more than once"):
        foreign.load(tmp_path / "x.th", "akamaster", 8)


def test_two_tensors_that_share_memory_are_refused(tmp_path):
    tensors = small()
    tensors["layer1.0.conv1.weight"] = tensors["layer1.0.conv2.weight"]
    torch.save(tensors, tmp_path / "x.th")
    with pytest.raises(UsageError, match="two of its tensors share memory"):
        foreign.load(tmp_path / "x.th", "akamaster", 8)


def test_parts_of_one_storage_are_read(tmp_path):
    """As a checkpoint has them whose parameters were views of one long vector."""
    tensors = small()
    flat = torch.cat([tensor.double().flatten() for tensor in tensors.values()]).float()
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    views = {key: part.view(tensors[key].shape) for key, part in zip(tensors, parts, strict=True)}
    torch.save(views, tmp_path / "x.th")
    network, _ = foreign.load(tmp_path / "x.th", "akamaster", 8)
    assert torch.equal(network.stem[0].weight, tensors["conv1.weight"])


def test_a_deep_network_is_not_built_for_a_small_file(tmp_path, monkeypatch):
    monkeypatch.setattr(NetworkSpec, "build", None)
    torch.save(small(), tmp_path / "x.th")
    with pytest.raises(UsageError, match="does not hold the tensors of ResNet-600000002, original: it has .* tensors"):
        foreign.load(tmp_path / "x.th", "akamaster", 6 * 10**8 + 2)


def test_a_compressed_archive_is_refused(tmp_path):
    """torch.save compresses nothing; a compressed member may be a thousand times as large as the file."""
    file = io.BytesIO()
    torch.save(small(), file)
    with zipfile.ZipFile(file) as plain, zipfile.ZipFile(tmp_path / "x.th", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(UsageError, match="its archive is compressed"):
        foreign.load(tmp_path / "x.th", "akamaster", 8)


@pytest.mark.parametrize("layout", ["akamaster", "torch7"])
@pytest.mark.parametrize("path", ["/dev/null", "."])
def test_what_is_no_file(layout, path):
    with pytest.raises(UsageError, match=f"no weights at {path} .it is no file.: give the path of a"):
        foreign.load(path, layout, 8)


def test_an_object_of_the_legacy_form_that_is_missing(tmp_path):
    """The last part of such a file names the storages that follow; another name is an AssertionError of PyTorch's."""
    file = io.BytesIO()
    torch.save(small(), file, _use_new_zipfile_serialization=False)
    content = file.getvalue()
    *_, last = re.finditer(rb"X.\0\0\0\d{6,}", content)  # a name is a text of digits
    place = last.start() + 6
    (tmp_path / "x.th").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(UsageError, match="must be a PyTorch checkpoint; it cannot be read") as refusal:
        foreign.load(tmp_path / "x.th", "akamaster", 8)
    assert "\n" not in str(refusal.value)


def test_a_text_longer_than_the_file_takes_no_memory(tmp_path):
    """Of the legacy form; found by the fuzzer: reading from a file takes memory for all that a length promises."""
    file = io.BytesIO()
    torch.save(small(), file, _use_new_zipfile_serialization=False)
    content = file.getvalue().replace(b"X\x10\0\0\0protocol_version", b"X\0\0\0\xf0protocol_version")
    (tmp_path / "x.th").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="x.th (must be a|is no) PyTorch checkpoint"):
            foreign.load(tmp_path / "x.th", "akamaster", 8)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"state_dict": small(), "more": Malicious(str(tmp_path / "ran"))}, tmp_path / "x.th")
    with pytest.raises(UsageError, match="code in a file is never run") as refusal:
        foreign.load(tmp_path / "x.th", "akamaster", 8)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x80\x02 no pickle", b"text"])
@pytest.mark.parametrize("layout", ["akamaster", "torch7"])
def test_files_that_are_no_checkpoint(content, layout, tmp_path):
    (tmp_path / "x.th").write_bytes(content)
    with pytest.raises(UsageError, match="x.th (must be|is no)") as refusal:
        foreign.load(tmp_path / "x.th", layout, 8)
    assert "\n" not in str(refusal.value)
    with pytest.raises(UsageError, match="no weights at"):
        foreign.load(tmp_path / "absent", layout, 8)


def test_layouts_that_are_none_of_ours():
    for name, reason in foreign.REFUSED.items():
        with pytest.raises(UsageError, match=f"{name} cannot be imported: it") as refusal:
            foreign.load("x", name, 110)
        assert reason in str(refusal.value)
    with pytest.raises(UsageError, match="layout must be one of: .*got 'torchvison'"):
        foreign.load("x", "torchvison", 50)


# --- Torch7: trees of modules as plain tuples, a writer of the file format, and what each module computes

RNG = np.random.default_rng(0)


def floats(*shape, low=-0.5):
    return RNG.uniform(low, low + 1, shape).astype(np.float32)


def t_conv(channels_in, channels, kernel, stride=1):
    weight = floats(channels, channels_in, kernel, kernel) * (12 / (channels_in * kernel**2)) ** 0.5
    sizes = {"kW": kernel, "kH": kernel, "dW": stride, "dH": stride, "padW": kernel // 2, "padH": kernel // 2}
    return "cudnn.SpatialConvolution", sizes | {"nInputPlane": channels_in, "nOutputPlane": channels, "weight": weight}


def t_bn(channels):
    affine = {"weight": floats(channels, low=0.5), "bias": floats(channels), "eps": 1e-5}
    statistics = {"running_mean": floats(channels), "running_var": floats(channels, low=0.5)}
    return "nn.SpatialBatchNormalization", affine | statistics


def t_linear(channels, classes):
    return "nn.Linear", {"weight": floats(classes, channels), "bias": floats(classes)}


def t(name, *modules, **fields):
    return name, fields | ({"modules": list(modules)} if modules else {})


RELU, ADD, IDENTITY, POOL = (
    t("cudnn.ReLU"),
    t("nn.CAddTable"),
    t("nn.Identity"),
    t("cudnn.SpatialAveragePooling", kW=8, dW=1),
)
MAX = t("nn.SpatialMaxPooling", kW=3, dW=2, padW=1)


def act(channels):
    return [t_bn(channels), RELU]


def sequence(*modules):
    return t("nn.Sequential", *modules)


def fork(branch, side):
    return [t("nn.ConcatTable", sequence(*branch), side), ADD]


def authors_1k(n, classes=10):
    """resnet-1k-layers: stride on the first conv, a shared activation in every unit that widens."""
    channels, stages = 16, []
    for stage, width in enumerate((64, 128, 256)):
        units = []
        for k in range(n):
            inner, stride = width // 4, 2 if k == 0 and stage else 1
            rest = [t_conv(channels, inner, 1, stride), *act(inner), t_conv(inner, inner, 3), *act(inner)]
            rest.append(t_conv(inner, width, 1))
            if channels != width:
                side = sequence(t_conv(channels, width, 1, stride))
                units.append(sequence(*act(channels), *fork(rest, side)))
            else:
                units.append(sequence(*fork([*act(channels), *rest], IDENTITY)))
            channels = width
        stages.append(sequence(*units))
    return sequence(t_conv(3, 16, 3), *stages, *act(channels), POOL, t("nn.View"), t_linear(channels, classes))


def facebook(counts, widths, opening, order="pre", projection_bn=False):
    """fb.resnet.torch on ImageNet: stride on the 3x3. `opening` "both" is its preresnet.lua since pull request 42,
    "branch" the one before it, of which the released ResNet-200 is."""
    channels, stages = widths[0], []
    for stage, (count, width) in enumerate(zip(counts, widths, strict=True)):
        units = []
        for k in range(count):
            stride = 2 if k == 0 and stage else 1
            rest = [t_conv(channels, width, 1), *act(width), t_conv(width, width, 3, stride), *act(width)]
            rest.append(t_conv(width, 4 * width, 1))
            side = [t_conv(channels, 4 * width, 1, stride)] if k == 0 else []
            if order == "BN after addition":
                unit = [*fork(rest, sequence(*side) if side else IDENTITY), *act(4 * width)]
            elif order == "original":
                side += [t_bn(4 * width)] if projection_bn and side else []
                unit = [*fork([*rest, t_bn(4 * width)], sequence(*side) if side else IDENTITY), RELU]
            elif k or opening == "branch":
                unit = fork([*act(channels), *rest], sequence(*side) if side else IDENTITY)
            else:
                unit = [*(act(channels) if stage else []), *fork(rest, sequence(*side))]
            units.append(sequence(*unit))
            channels = 4 * width
        stages.append(sequence(*units))
    stem = [t_conv(3, widths[0], 7, 2), *act(widths[0]), MAX]
    last = act(channels) if order == "pre" else []
    return sequence(*stem, *stages, *last, POOL, t("nn.View"), t_linear(channels, 1000))


def facebook_cifar(n, widths=(16, 32, 64)):
    """fb.resnet.torch on CIFAR-10: basic units, zero padding, original order."""
    channels, units = widths[0], []
    for width in widths:
        for k in range(n):
            stride = 2 if k == 0 and width != widths[0] else 1
            branch = [t_conv(channels, width, 3, stride), *act(width), t_conv(width, width, 3), t_bn(width)]
            zeros = t("nn.Concat", IDENTITY, t("nn.MulConstant", constant_scalar=0), dimension=2)
            padded = sequence(t("nn.SpatialAveragePooling", kW=1, dW=stride), zeros)
            units.append(sequence(*fork(branch, IDENTITY if channels == width else padded), RELU))
            channels = width
    stem = t_conv(3, widths[0], 3), *act(widths[0])
    return sequence(*stem, sequence(*units), POOL, t("nn.View"), t_linear(channels, 10))


def compute(tree, x):
    """What Torch7 computes for such a tree, in float64."""
    name, fields = tree
    kind = name.partition(".")[2]
    wide = {key: torch.from_numpy(v).double() for key, v in fields.items() if isinstance(v, np.ndarray)}
    if kind == "Sequential":
        for module in fields["modules"]:
            x = compute(module, x)
        return x
    if kind == "ConcatTable":
        return [compute(module, x) for module in fields["modules"]]
    if kind == "CAddTable":
        return x[0] + x[1]
    if kind == "SpatialConvolution":
        return F.conv2d(x, wide["weight"], wide.get("bias"), fields["dW"], fields["padW"])
    if kind == "SpatialBatchNormalization":
        shape = (1, -1, 1, 1)
        x = (x - wide["running_mean"].view(shape)) / (wide["running_var"].view(shape) + fields["eps"]).sqrt()
        return x * wide["weight"].view(shape) + wide["bias"].view(shape)
    if kind == "SpatialAveragePooling":
        return x[:, :, :: fields["dW"], :: fields["dW"]] if fields["kW"] == 1 else x.mean((2, 3), keepdim=True)
    if kind == "SpatialMaxPooling":
        return F.max_pool2d(x, fields["kW"], fields["dW"], fields["padW"])
    if kind == "Concat":
        return torch.cat([compute(module, x) for module in fields["modules"]], 1)
    if kind == "MulConstant":
        return x * fields["constant_scalar"]
    if kind == "Linear":
        return x @ wide["weight"].T + wide["bias"]
    return {"ReLU": F.relu, "Identity": lambda x: x, "View": lambda x: x.flatten(1)}[kind](x)


@dataclass
class Stretched:
    """A tensor of that shape that shows one value again and again, with strides of zero."""

    shape: tuple


class Writer:
    """Torch7's binary format, as `torch.save` writes it on a 64-bit machine."""

    def __init__(self, tensors="Cuda"):
        self.parts, self.index, self.tensors = [], 0, tensors

    def put(self, code, *values):
        self.parts.append(struct.pack(f"<{len(values)}{code}", *values))

    def string(self, text):
        self.put("i", len(text))
        self.parts.append(text.encode())

    def begin(self, kind, name=None):
        self.index += 1
        self.put("i", kind, self.index)
        if name:
            self.string("V 1")
            self.string(name)

    def write(self, value):
        if isinstance(value, tuple):
            self.begin(4, value[0])
            self.write(value[1] | {"output": np.empty(0, np.float32), "train": False, "_type": "torch.CudaTensor"})
        elif isinstance(value, np.ndarray):
            self.begin(4, f"torch.{self.tensors}Tensor")
            self.put("i", value.ndim if value.size else 0)
            if value.size:
                self.put("q", *value.shape, *(stride // value.itemsize for stride in value.strides))
            self.put("q", 1)
            if value.size:
                self.write_storage(value)
            else:
                self.put("i", 0)
        elif isinstance(value, Stretched):
            self.begin(4, f"torch.{self.tensors}Tensor")
            self.put("i", len(value.shape))
            self.put("q", *value.shape, *(0 for _ in value.shape), 1)
            self.write_storage(np.zeros(1, np.float32))
        elif isinstance(value, dict | list):
            pairs = list(value.items() if isinstance(value, dict) else enumerate(value, 1))
            self.begin(3)
            self.put("i", len(pairs))
            for key, each in pairs:
                self.write(key)
                self.write(each)
        elif isinstance(value, str):
            self.put("i", 2)
            self.string(value)
        elif isinstance(value, bool):
            self.put("i", 5, value)
        else:
            self.put("i", 1)
            self.put("d", value)
        return self

    def write_storage(self, values):
        self.begin(4, f"torch.{self.tensors}Storage")
        self.put("q", values.size)
        self.parts.append(values.tobytes())

    def content(self):
        return b"".join(self.parts)


NARROW = (2, 3, 4, 5)
TREES = {
    "resnet-1k-layers, 11 layers": (lambda: authors_1k(1), "ResNet-11, full pre-activation", {"stride_on": "first"}),
    "resnet-1k-layers, 164 layers": (lambda: authors_1k(18), "ResNet-164, full pre-activation", {}),
    "preresnet.lua, 200 layers": (
        lambda: facebook((3, 24, 36, 3), NARROW, "both"),
        "ResNet-200, full pre-activation",
        {"stride_on": "3x3", "opening": "both", "widths": NARROW},
    ),
    "the released 200 layers": (
        lambda: facebook((3, 24, 36, 3), NARROW, "branch"),
        "ResNet-200, full pre-activation",
        {"stride_on": "3x3", "opening": "branch"},
    ),
    "resnet.lua, 50 layers": (
        lambda: facebook((3, 4, 6, 3), NARROW, "both", "original", projection_bn=True),
        "ResNet-50, original",
        {"projection_bn": True},
    ),
    "the released 101 layers": (
        lambda: facebook((3, 4, 23, 3), NARROW, "both", "original"),
        "ResNet-101, original",
        {"projection_bn": False},
    ),
    "the released 50 layers": (
        lambda: facebook((3, 4, 6, 3), NARROW, "both", "BN after addition"),
        "ResNet-50, BN after addition",
        {"projection_bn": False},
    ),
    "resnet.lua, 20 layers": (lambda: facebook_cifar(3), "ResNet-20, original", {"resize": "pad"}),
}


@pytest.mark.parametrize("name", TREES)
def test_torch7_logits_are_those_of_the_tree(name, tmp_path):
    make, described, choices = TREES[name]
    tree, path = make(), tmp_path / "network.t7"
    path.write_bytes(Writer().write(tree).content())
    ours, about = foreign.load(path, "torch7")
    assert str(ours.spec) == described
    assert {key: getattr(ours.spec, key) for key in choices} == choices
    assert about["images"]["dataset"] == ours.spec.stem.replace("cifar", "cifar10")
    same_logits(lambda x: compute(tree, x), ours, 64)


def replaced(tree, at, module):
    """The tree with another module at a place, counted from 0, of its top Sequential."""
    modules = list(tree[1]["modules"])
    modules[at : at + 1] = module
    return sequence(*modules)


def unit_of(convs):
    return fork([t_conv(3, 3, 3) for _ in range(convs)], IDENTITY)


def biased(tree):
    tree[1]["modules"][0][1]["bias"] = floats(16)
    return tree


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda tree: replaced(tree, 4, []), r"at step \d+ it has \('relu',\), ResNet-11.* has \('bn', 256\)"),
        (lambda tree: replaced(tree, 4, [t("nn.Dropout")]), "it has a nn.Dropout, which none of them has"),
        (lambda tree: replaced(tree, 0, [t_conv(3, 16, 3), RELU]), r"at step 2 it has \('relu',\)"),
        (biased, "stem.0 has a bias"),
        (
            lambda tree: t_linear(3, 4),
            "its units must have 1, 2 or 3 convolutions, all of them the same number; got no",
        ),
        (lambda tree: sequence(*fork([RELU], IDENTITY), t_linear(3, 4)), "its units must have 1, 2 or 3 .*; got 0"),
        (lambda tree: sequence(*unit_of(4), t_linear(3, 4)), "its units must have 1, 2 or 3 .*; got 4"),
        (lambda tree: sequence(*unit_of(1), *unit_of(2), t_linear(3, 4)), "all of them the same number; got 1, 2"),
        (lambda tree: sequence(*unit_of(2), t_linear(3, 4)), "must begin with a convolution and have a linear class"),
        (lambda tree: sequence(t_conv(3, 3, 3), *unit_of(2)), "must begin with a convolution and have a linear class"),
        (lambda tree: t("nn.DataParallelTable"), "the modules of its nn.DataParallelTable must be a list of modules"),
        (lambda tree: ("nn.DataParallelTable", {"modules": 5}), "must be a list of modules"),
        (lambda tree: ("nn.Sequential", {"modules": [5]}), "must be a list of modules"),
        (lambda tree: {"epoch": 3}, "its top is no module"),
        (lambda tree: floats(3), "its top is no module"),
    ],
)
def test_torch7_trees_that_are_none_of_ours(spoil, message, tmp_path):
    (tmp_path / "x.t7").write_bytes(Writer().write(spoil(authors_1k(1))).content())
    with pytest.raises(UsageError, match=message) as refusal:
        foreign.load(tmp_path / "x.t7", "torch7")
    assert "\n" not in str(refusal.value)


def with_field(key, value, module=0):
    """A tree of which a module's field is another value; module: its place at the top, the stem's conv by default."""
    tree = facebook_cifar(1, (2, 3, 4))
    tree[1]["modules"][module][1][key] = value
    return tree


SIZE = "must be a whole number from 1 to 16777215; got"


@pytest.mark.parametrize("key", ["nInputPlane", "nOutputPlane", "kW", "dH"])
@pytest.mark.parametrize("value", [0, -3, 3.5, 1e308, 2**62, float("nan"), True, "16", {}, np.zeros(2, np.float32)])
def test_sizes_that_are_no_sizes(key, value, tmp_path):
    (tmp_path / "x.t7").write_bytes(Writer("Float").write(with_field(key, value)).content())
    with pytest.raises(UsageError, match=f"{key} of its cudnn.SpatialConvolution {SIZE}") as refusal:
        foreign.load(tmp_path / "x.t7", "torch7")
    assert "\n" not in str(refusal.value)


NAN = np.full((2, 3, 3, 3), np.nan, np.float32)


@pytest.mark.parametrize(
    "tree, message",
    [
        (lambda: with_field("nInputPlane", 2 * 10**7, 0), SIZE),
        (lambda: with_field("nInputPlane", 10**7, 0), "does not hold the tensors of .*10,000,000 channels"),
        (lambda: with_field("weight", "text"), "weight of its cudnn.SpatialConvolution must be a tensor; got 'text'"),
        (lambda: with_field("weight", NAN), "stem.0.weight must be .*NaN"),
        (lambda: with_field("weight", floats(2, 3, 3, 4)), r"stem.0.weight is \(2, 3, 3, 4\), not \(2, 3, 3, 3\)"),
        (lambda: with_field("bias", {}), "bias of its cudnn.SpatialConvolution must be a tensor"),
        (
            lambda: with_field("running_mean", 2, 1),
            "running_mean of its nn.SpatialB.* must be a tensor of 1 dimensions",
        ),
        (lambda: with_field("running_var", floats(2) - 9, 1), "stem.1.running_var must be .*negative"),
        (
            lambda: with_field("weight", {}, 1),
            "weight of its nn.SpatialBatchNormalization must be a tensor; got a dict",
        ),
        (lambda: with_field("eps", 1e-3, 1), "its BNs must have one epsilon; got 2"),
        (lambda: with_field("eps", {}, 1), "unhashable"),
        (lambda: with_field("weight", floats(4), -1), "weight of its nn.Linear must be a tensor of 2 dimensions"),
    ],
)
def test_fields_that_are_not_of_their_type(tree, message, tmp_path):
    (tmp_path / "x.t7").write_bytes(Writer("Float").write(tree()).content())
    with pytest.raises(UsageError, match=message) as refusal:
        foreign.load(tmp_path / "x.t7", "torch7")
    assert "\n" not in str(refusal.value)


def test_weights_of_whole_numbers_are_refused(tmp_path):
    (tmp_path / "x.t7").write_bytes(Writer("Int").write(facebook_cifar(1, (2, 3, 4))).content())
    with pytest.raises(UsageError, match="stem.0.weight must be .*it is of torch.int32"):
        foreign.load(tmp_path / "x.t7", "torch7")


def sequential(writer, *children):
    """Begin a Sequential in the file; children: what writes each of its modules."""
    writer.begin(4, "nn.Sequential")
    here = writer.index
    writer.begin(3)
    writer.put("i", 1)
    writer.write("modules")
    writer.begin(3)
    writer.put("i", len(children))
    for place, write in enumerate(children, 1):
        writer.write(place)
        write()
    return here


def test_modules_that_share_children(tmp_path):
    """Each level holds the one below it twice: 25 of them are a file of 5 KB, and a tree of 2^24 leaves."""
    writer = Writer("Float")

    def level(depth):
        shared = []

        def first():
            shared.append(writer.index + 1)
            level(depth - 1)

        if depth == 0:
            writer.write(t_linear(1, 1))
        else:
            sequential(writer, first, lambda: writer.put("i", 4, shared[0]))

    level(24)
    (tmp_path / "x.t7").write_bytes(writer.content())
    assert (tmp_path / "x.t7").stat().st_size < 6_000
    with pytest.raises(UsageError, match="stands in it twice"):
        foreign.load(tmp_path / "x.t7", "torch7")


@pytest.mark.parametrize("name", ["nn.Sequential", "nn.DataParallelTable"])
def test_a_module_that_holds_itself(name, tmp_path):
    writer = Writer("Float")
    sequential(writer, lambda: writer.put("i", 4, 1))
    content = writer.content().replace(b"\x0d\0\0\0nn.Sequential", struct.pack("<i", len(name)) + name.encode())
    (tmp_path / "x.t7").write_bytes(content)
    with pytest.raises(UsageError, match="holds none of our networks"):
        foreign.load(tmp_path / "x.t7", "torch7")


def test_modules_that_go_too_deep(tmp_path):
    """Each written before the one that holds it, so that only the walk goes deep, and not the reader."""
    writer, made = Writer("Float"), []
    writer.begin(3)
    writer.put("i", 3_000)
    for place in range(3_000):
        writer.write(place)
        inner = [lambda: writer.put("i", 4, made[-1])] if made else []
        made.append(sequential(writer, *inner))
    table = torch7.Reader(writer.content()).object()
    with pytest.raises(UsageError, match="recursion"):
        torch7_trees.from_tree(table[2_999], "x.t7")


@pytest.mark.parametrize("pairs", [100, 3_000_000])
def test_a_table_of_nils(pairs, tmp_path):
    (tmp_path / "x.t7").write_bytes(struct.pack("<iii", 3, 1, pairs) + bytes(8 * pairs))
    with pytest.raises(UsageError, match="nil for a key"):
        foreign.load(tmp_path / "x.t7", "torch7")


def test_objects_have_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(torch7, "OBJECTS", 1_000)
    (tmp_path / "x.t7").write_bytes(Writer().write(list(range(600))).content())
    with pytest.raises(UsageError, match="more than 1,000 objects"):
        torch7.load(tmp_path / "x.t7")


def test_the_largest_network_has_a_tenth_of_the_objects():
    reader = torch7.Reader(Writer().write(facebook_cifar(200, (1, 1, 1))).content())
    reader.object()
    assert torch7.OBJECTS - reader.left < torch7.OBJECTS / 10


@pytest.mark.parametrize(
    "shape, strides, offset, storage, message",
    [
        ((2,), (2**62,), 1, "whole", "reaches beyond its storage"),
        ((2**40,), (1,), 1, "whole", "reaches beyond its storage"),
        ((2, 2), (-1, 1), 2, "whole", "reaches beyond its storage"),
        ((2,), (1,), 0, "whole", "reaches beyond its storage"),
        ((0,), (1,), 1, "whole", "reaches beyond its storage"),
        ((2,), (1,), 1, "text", "without a storage of its type"),
        ((2,), (1,), 1, "stretched", "without a storage of its type"),
        ((1,) * 33, (1,) * 33, 1, "whole", "a tensor of 33 dimensions"),
    ],
)
def test_tensors_that_lie_outside(shape, strides, offset, storage, message, tmp_path):
    writer = Writer("Float")
    writer.begin(4, "torch.FloatTensor")
    writer.put("i", len(shape))
    writer.put("q", *shape, *strides, offset)
    if storage == "text":
        writer.write("storage")
    elif storage == "stretched":  # a tensor that shows its one value 2^40 times, in the place of a storage
        writer.begin(4, "torch.FloatTensor")
        writer.put("i", 1)
        writer.put("q", 2**40, 0, 1)
    if storage != "text":
        writer.begin(4, "torch.FloatStorage")
        writer.put("q", 4)
        writer.put("f", 0, 1, 2, 3)
    (tmp_path / "x.t7").write_bytes(writer.content())
    with pytest.raises(UsageError, match=message):
        torch7.load(tmp_path / "x.t7")


@pytest.mark.parametrize(
    "key, module, shape",
    [
        ("weight", 0, (2, 3, 3, 3)),
        ("weight", 0, (2**20, 2**20)),
        ("bias", 0, (2**23,)),
        ("running_var", 1, (2,)),
        ("weight", -1, (2**23, 4)),
    ],
)
def test_a_value_shown_many_times_takes_no_memory(key, module, shape, tmp_path):
    """With strides of zero a tensor may be larger than any memory, in a file of a few kilobytes."""
    (tmp_path / "x.t7").write_bytes(Writer("Float").write(with_field(key, Stretched(shape), module)).content())
    with pytest.raises(UsageError, match="shows the same values more than once"):
        foreign.load(tmp_path / "x.t7", "torch7")


def test_a_function_of_type_6_has_no_index(tmp_path):
    """Torch7's own reader (File.lua) reads its code at once, where those of types 7 and 8 begin with an index."""
    writer = Writer("Float")
    writer.begin(3)
    writer.put("i", 2)
    writer.write("old")
    writer.put("i", 6)
    writer.string("code")
    writer.write({"upvalue": 1})
    writer.write("after")
    writer.write(5)
    (tmp_path / "x.t7").write_bytes(writer.content())
    assert torch7.load(tmp_path / "x.t7") == {"old": None, "after": 5}


def test_another_table_of_steps_is_compared_soon():
    """The specs of a deep net are told apart by two units of each stage, so that a refusal takes no minute."""
    for spec in (cifar_spec(1001, order="full pre-activation"), cifar_spec(32), cifar_spec(14), cifar_spec(8)):
        with torch.device("meta"):
            assert torch7_trees._outlined(spec) == torch7_trees._steps(spec.build())[0]
    began = time.process_time()
    for order in ORDERS:
        torch7_trees._outlined(cifar_spec(1001, order=order))
    assert time.process_time() - began < 1  # with all units each of them took half a second


def test_a_cut_torch7_file_is_refused(tmp_path):
    whole = Writer().write(authors_1k(1)).content()
    for length in (3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "x.t7").write_bytes(whole[:length])
        with pytest.raises(UsageError, match="must be a binary 64-bit Torch7 file"):
            foreign.load(tmp_path / "x.t7", "torch7")


def test_the_writer_writes_what_torch7_wrote():
    """The first bytes of a 2 x 3 FloatTensor that Torch7 itself saved, from a public dump of such a file."""
    dumped = """04000000 01000000 03000000 562031 11000000 746f7263682e466c6f617454656e736f72 02000000
    0200000000000000 0300000000000000 0300000000000000 0100000000000000 0100000000000000 04000000 02000000 03"""
    dumped = bytes.fromhex("".join(dumped.split()))
    assert Writer("Float").write(np.zeros((2, 3), np.float32)).content().startswith(dumped)


@pytest.mark.parametrize("kind, dtype", [("Float", "<f4"), ("CudaHalf", "<f2"), ("Double", "<f8"), ("Long", "<i8")])
def test_values_are_read_as_written(kind, dtype, tmp_path):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    path = tmp_path / "x.t7"
    path.write_bytes(Writer(kind).write({"a": array, "b": [1, 2.5, "text", True], "c": {"d": -7}}).content())
    read = torch7.load(path)
    assert np.array_equal(read["a"], array) and read["a"].dtype == dtype
    assert (read["b"], read["c"]) == ({1: 1, 2: 2.5, 3: "text", 4: True}, {"d": -7})


def test_shared_objects_views_and_functions_are_read(tmp_path):
    """A table that contains itself, a transposed view at an offset, a function that is passed over, a nil."""
    w = Writer("Float")
    w.begin(3)  # object 1
    w.put("i", 4)
    w.write("self")
    w.put("i", 3, 1)
    w.write("view")
    w.begin(4, "torch.FloatTensor")
    w.put("i", 2)
    w.put("q", 2, 2, 1, 2, 2)  # shape (2, 2), strides (1, 2), from the second value on
    w.begin(4, "torch.FloatStorage")
    w.put("q", 5)
    w.put("f", 0, 1, 2, 3, 4)
    w.write("function")
    w.begin(8)
    w.string("code")
    w.write({"upvalue": 1})
    w.write("nil")
    w.put("i", 0)
    path = tmp_path / "x.t7"
    path.write_bytes(w.content())
    read = torch7.load(path)
    assert read["self"] is read and read["function"] is None and read["nil"] is None
    assert read["view"].tolist() == [[1, 3], [2, 4]]
