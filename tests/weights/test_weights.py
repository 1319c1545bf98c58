"""Weights kept by training, read back, refused, and evaluated."""

import hashlib
import json
import re
import struct
import sys

import numpy as np
import pytest
import torch
from conftest import small_run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from identity_mappings import ORDERS, NetworkSpec, UsageError, cifar_resnet, shortcut, weights
from identity_mappings.__main__ import main
from identity_mappings.data import load as load_data
from identity_mappings.results import records
from identity_mappings.training import train, train_all
from identity_mappings.weights import evaluation, files

SHORTCUTS = [
    shortcut(),
    shortcut("scaled", a=0.5, b=0.5),
    shortcut("exclusive gate", bias=-6, bn=True),
    shortcut("shortcut-only gate", bias=-6),
    shortcut("1x1 conv"),
    shortcut("dropout", p=0.5),
]

specs = st.builds(
    lambda branch, units, **choices: NetworkSpec(
        units * 3 * {"one-layer": 1, "basic": 2, "bottleneck": 3}[branch] + 2, branch=branch, **choices
    ),
    branch=st.sampled_from(["one-layer", "basic", "bottleneck"]),
    units=st.integers(1, 2),
    order=st.sampled_from(list(ORDERS)),
    shortcut=st.sampled_from(SHORTCUTS),
    widths=st.tuples(*[st.integers(1, 4).map(lambda k, m=m: m * k) for m in (1, 4, 16)]),
    resize=st.sampled_from(["pad", "projection"]),
    projection_bn=st.sampled_from([None, True, False]),
    stride_on=st.sampled_from(["first", "3x3"]),
    opening=st.sampled_from(["both", "branch"]),
    classes=st.integers(1, 12),
    channels=st.integers(1, 3),
)


@given(specs)
def test_a_spec_comes_back_from_json(spec):
    assert NetworkSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@settings(deadline=None, max_examples=25)
@given(specs)
def test_a_network_comes_back_from_its_file(tmp_path_factory, spec):
    path = tmp_path_factory.mktemp("weights") / "x.safetensors"
    network = spec.build()
    images = torch.randn(2, spec.channels, 8, 8)
    network.train()(images)  # so that the running statistics are not the initial ones
    weights.save(path, network, images={"dataset": "digits", "normalisation": "channel"})
    again, about = weights.load(path)
    assert again.spec == spec and not again.training
    assert about == {"record": None, "images": {"dataset": "digits", "normalisation": "channel"}}
    with torch.no_grad():
        assert torch.equal(again(images), network.eval()(images))


@pytest.mark.parametrize(
    "plain, message",
    [
        ({"depth": 20, "dept": 3}, "field of a network's spec must be one of: depth,.*got 'dept'"),
        ({"branch": "basic"}, "must be a JSON object with a depth"),
        ([20], "must be a JSON object with a depth"),
        ({"depth": "20"}, "depth of a network's spec must be .*int.*got '20'"),
        ({"depth": True}, "depth of a network's spec must be .*int.*got True"),
        ({"depth": 21}, "depth of a basic net must be 6n.2"),
        ({"depth": 20, "widths": [16, -1, 64]}, "must be 1 or more"),
        ({"depth": 20, "widths": [16, "32", 64]}, "must be 1 or more"),
        ({"depth": 20, "widths": [16, True, 64]}, "must be 1 or more"),
        ({"depth": 20, "widths": []}, "widths must be one a stage"),
        ({"depth": 20, "classes": 0}, "must be 1 or more"),
        ({"depth": 20, "shortcut": {"kind": "gate"}}, "shortcut must be one of"),
        ({"depth": 20, "shortcut": {}}, "shortcut must be one of"),
        ({"depth": 20, "shortcut": {"kind": "dropout", "q": 1}}, "option of the shortcut 'dropout' must be one of"),
        ({"depth": 20, "shortcut": {"kind": "dropout", "p": "0.5"}}, "p of the shortcut 'dropout' must be a number"),
        ({"depth": 20, "shortcut": {"kind": "dropout", "p": float("nan")}}, "must be a number; got nan"),
        ({"depth": 20, "shortcut": {"kind": "dropout", "p": 0.5, "rescale": 1}}, "rescale .* must be true or false"),
        ({"depth": 20, "shortcut": {"kind": "scaled", "a": [0], "b": 1}}, "a of the shortcut 'scaled' must be a num"),
        ({"depth": 20, "order": "pre"}, "order must be one of"),
    ],
)
def test_what_is_no_spec(plain, message):
    with pytest.raises(UsageError, match=message):
        NetworkSpec.from_json(plain)


def test_the_hash_of_an_older_spec_stays(run):
    assert "opening" not in run.recipe.network.to_json()
    assert NetworkSpec(20, opening="branch").to_json()["opening"] == "branch"


def test_bn_epsilon_is_kept(tmp_path):
    network = cifar_resnet(8, widths=(2, 3, 4))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.25
    weights.save(tmp_path / "x.safetensors", network)
    again, _ = weights.load(tmp_path / "x.safetensors")
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(again(images), network.eval()(images))


# --- what is refused


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "x.safetensors"
    weights.save(path, cifar_resnet(8, widths=(2, 3, 4)))
    return path


def rewritten(path, tensors=lambda t: t, metadata=lambda m: m, sealed=True):
    """Write the file again with other tensors or metadata; sealed: with the digest of what it then holds."""
    with safe_open(path, "pt") as file:
        held, about = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    held, about = tensors(held), metadata(about)
    if about and sealed:
        about["digest"] = files.digest(held, about)
    save_file(held, path, about)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: {k: v for k, v in t.items() if k != "classifier.bias"}, "missing classifier.bias"),
        (
            lambda t: {k: v for k, v in t.items() if "units.1" not in k},
            r"12 missing \(units.1.residual.0.weight",
        ),
        (lambda t: t | {"more": torch.zeros(1)}, "unexpected more"),
        (lambda t: t | {"classifier.bias": torch.zeros(9)}, r"classifier.bias is \(9,\), not \(10,\)"),
    ],
)
def test_other_tensors_are_refused(kept, change, message):
    rewritten(kept, tensors=change)
    with pytest.raises(UsageError, match=f"does not hold the tensors of ResNet-8, original: {message}"):
        weights.load(kept)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda m: None, "must name its format"),
        (lambda m: m | {"format": "pt"}, "must name its format .*got 'pt'"),
        (lambda m: {k: v for k, v in m.items() if k != "network"}, "damaged metadata"),
        (lambda m: m | {"network": "{"}, "damaged metadata"),
        (lambda m: m | {"network": '{"depth": 9}'}, "damaged metadata .*6n.2"),
        (lambda m: m | {"bn_eps": '"small"'}, "damaged metadata .*bn_eps must be"),
        (lambda m: m | {"bn_eps": "-1.0"}, "damaged metadata .*bn_eps must be"),
        (lambda m: m | {"record": "no JSON"}, "damaged metadata"),
        (lambda m: m | {"record": "[1]"}, "damaged metadata .*record must be"),
        (lambda m: m | {"record": "[" * 200_000}, "damaged metadata"),
        (lambda m: m | {"images": "[1]"}, "damaged metadata .*mean must be 3 numbers"),
        (lambda m: m | {"images": '{"dataset": 1, "normalisation": "pixel"}'}, "damaged metadata .*must be a name"),
        (lambda m: m | {"images": '{"normalisation": "pixel"}'}, "damaged metadata .*dataset of the mean must be"),
        (lambda m: m | {"images": '{"dataset": "cifar10", "normalisation": 3}'}, "damaged metadata .*normalisation"),
        (lambda m: m | {"images": '{"mean": [0, 0], "std": [1, 1]}'}, "damaged metadata .*mean must be 3 numbers"),
        (lambda m: m | {"images": '{"mean": [0, 0, 0], "std": [1, 1, 0]}'}, "damaged metadata .*std must be above 0"),
        (lambda m: m | {"images": '{"mean": [0, 0, NaN], "std": [1, 1, 1]}'}, "damaged metadata .*mean must be"),
    ],
)
def test_other_metadata_are_refused(kept, change, message):
    rewritten(kept, metadata=change)
    with pytest.raises(UsageError, match=message) as refusal:
        weights.load(kept)
    assert "\n" not in str(refusal.value)


def with_tensor(change):
    return lambda tensors: tensors | {"units.0.residual.1.weight": change(tensors["units.0.residual.1.weight"])}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.to(torch.int32), "it is of torch.int32"),
        (lambda t: t.to(torch.complex64), "it is of torch.complex64"),
        (lambda t: t > 0, "it is of torch.bool"),
        (lambda t: t * float("nan"), "it holds NaN or infinity"),
        (lambda t: t * float("inf"), "it holds NaN or infinity"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(kept, change, message):
    rewritten(kept, tensors=with_tensor(change))
    with pytest.raises(UsageError, match=f"units.0.residual.1.weight must be a dense tensor .*; {message}"):
        weights.load(kept)


def test_a_name_of_two_lines_is_refused_in_one(kept):
    rewritten(kept, tensors=lambda t: t | {"a\nb": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"must be text on one line; got 'a\\nb'$"):
        weights.load(kept)


def test_a_negative_variance_is_refused(kept):
    rewritten(kept, tensors=lambda t: t | {"stem.1.running_var": -t["stem.1.running_var"]})
    with pytest.raises(UsageError, match="stem.1.running_var must be .*negative"):
        weights.load(kept)


@pytest.mark.parametrize(
    "spec",
    [
        {"depth": 6 * 10**8 + 2},
        {"depth": 8, "classes": 2**28},
        {"depth": 8, "widths": [2, 3, 2**40]},
        {"depth": 8, "channels": 10**30},
        {"depth": 200_002, "widths": [1] * 100_000},
    ],
)
def test_a_network_larger_than_the_file_is_never_built(kept, spec, monkeypatch):
    monkeypatch.setattr(NetworkSpec, "build", None)
    rewritten(kept, metadata=lambda m: m | {"network": json.dumps(spec)})
    with pytest.raises(UsageError, match="does not hold the tensors of .*: it has [0-9]+ tensors with [0-9,]+ values"):
        weights.load(kept)


def test_every_bit_of_a_file_counts(kept):
    """A flipped bit is refused, or was in the header's padding and changes nothing."""
    whole, network = bytearray(kept.read_bytes()), weights.load(kept)[0].state_dict()
    random = np.random.default_rng(0)
    for bit in random.choice(8 * len(whole), 150, replace=False):
        whole[bit // 8] ^= 1 << bit % 8
        kept.write_bytes(whole)
        whole[bit // 8] ^= 1 << bit % 8
        try:
            again = weights.load(kept)[0].state_dict()
        except UsageError as refusal:
            assert "\n" not in str(refusal)
        else:
            assert all(torch.equal(again[key], tensor) for key, tensor in network.items())


def test_a_changed_tensor_or_record_is_damage(kept):
    rewritten(kept, tensors=with_tensor(lambda t: t * 2), sealed=False)
    with pytest.raises(UsageError, match="is damaged: its digest is not that of what it holds"):
        weights.load(kept)
    rewritten(kept, tensors=with_tensor(lambda t: t / 2), metadata=lambda m: m | {"record": "{}"}, sealed=False)
    with pytest.raises(UsageError, match="is damaged"):
        weights.load(kept)
    rewritten(kept, metadata=lambda m: {k: v for k, v in m.items() if k != "digest"}, sealed=False)
    with pytest.raises(UsageError, match="is damaged"):
        weights.load(kept)


def test_a_file_from_before_there_were_digests_is_read(kept):
    first = {"format": "identity-mappings 1"}
    rewritten(kept, metadata=lambda m: {k: v for k, v in m.items() if k != "digest"} | first, sealed=False)
    assert weights.load(kept)[0].spec.depth == 8


def test_a_digest_is_of_names_types_shapes_and_bytes():
    def one(**tensors):
        return files.digest(tensors, {"format": "x", "digest": "passed over"})

    x = torch.arange(6, dtype=torch.float32)
    digests = [one(a=x), one(b=x), one(a=x, b=x[:0]), one(a=x.view(2, 3)), one(a=x.int()), one(a=x.bfloat16()), one()]
    assert len(set(digests)) == len(digests)
    assert one(a=x, b=x + 1) == one(b=x + 1, a=x.clone()) and one(a=x.view(2, 3).T) == one(
        a=x.view(2, 3).T.contiguous()
    )


def pickled(content):
    return b"\x80\x04cposix\nsystem\nX\x04\x00\x00\x00true\x85R."


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:20], lambda b: b[:-1], lambda b: struct.pack("<Q", 2**40) + b[8:], pickled]
)
def test_files_that_are_no_safetensors(kept, damage):
    kept.write_bytes(damage(kept.read_bytes()))
    with pytest.raises(UsageError, match="must be a safetensors file; it cannot be read") as refusal:
        weights.load(kept)
    assert "\n" not in str(refusal.value)


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match="no weights at"):
        weights.load(tmp_path / "absent.safetensors")
    for path in (tmp_path, "/dev/null"):
        with pytest.raises(UsageError, match="no weights at .*it is no file"):
            weights.load(path)


def test_without_the_library_the_line_says_what_to_install(monkeypatch, run, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(UsageError, match="pip install safetensors"):
        weights.load("x")
    with pytest.raises(UsageError, match="pip install safetensors"):
        train(run, results=tmp_path, weights=True)
    assert not list(tmp_path.iterdir())  # said before the run, not at its end


def test_a_worker_process_answers_in_one_line(pictures, monkeypatch):
    (pictures / "val/class-5/c.png").write_bytes(b"no picture")
    spec = NetworkSpec(50, branch="bottleneck", stem="imagenet", widths=(2, 2, 2, 2), classes=6)
    batches, *_ = evaluation.folder_batches(spec, evaluation.test_files("folder", pictures), None, batch=2)
    with pytest.raises(UsageError, match="^[^\n]*c.png must be a picture[^\n]*$"):
        list(batches)


# --- training keeps them, and evaluation gives the record's error


def percents(text):
    return [float(number) for number in re.findall(r"error (\d+\.\d\d) %", text)]


@pytest.mark.parametrize(
    "table, id, depth", [(1, "original", 8), (1, "dropout", 8), (2, "164-full-pre-activation", 11)]
)
def test_evaluate_gives_the_error_of_the_record(table, id, depth, tmp_path, capsys):
    run = small_run(table, id, depth, iterations=40)
    record = train(run, results=tmp_path, threads=1, weights=True)
    path = run.weights_path(tmp_path)
    network, about = weights.load(path)
    assert about["record"] == record == records.read(run, tmp_path)
    assert network.spec == run.recipe.network
    held = load_data("digits")
    batches, _ = evaluation.small_batches(network.spec, "digits", about["images"])
    assert evaluation.score(network, batches).top1 == record["test_error"] > 0
    assert main(["evaluate", "--weights", str(path), "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert percents(out)[0] == pytest.approx(record["test_error"], abs=0.005)
    assert f"n = {len(held.x_test)} images" in out and "the mean image of digits" in out


def test_train_and_evaluate_as_a_user_would(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    what = ["--table", "1", "--row", "original", "--tier", "smoke", "--depth", "8", "--iterations", "20"]
    assert main(["train", *what, "--device", "cpu", "--weights"]) == 0
    path = run.weights_path()
    assert f"weights: {path}" in capsys.readouterr().out.splitlines()
    status, out, _ = evaluate(capsys, "--weights", path)
    assert status == 0
    assert percents(out)[0] == pytest.approx(records.read(run)["test_error"], abs=0.005)


def test_a_resumed_run_keeps_the_weights_of_an_uninterrupted_one(tmp_path):
    run = small_run(1, "dropout", iterations=30)
    train(run, results=tmp_path / "whole", threads=1, weights=True)
    left = iter([False] * 10 + [True])
    assert train(run, results=tmp_path / "parts", threads=1, weights=True, should_stop=lambda: next(left)) is None
    assert not run.weights_path(tmp_path / "parts").exists()
    train(run, results=tmp_path / "parts", threads=1, weights=True)
    one, other = (weights.load(run.weights_path(tmp_path / part))[0].state_dict() for part in ("whole", "parts"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    assert sorted(p.name for p in run.folder(tmp_path / "parts").iterdir()) == ["seed-0.json", "seed-0.safetensors"]


def test_weights_are_there_before_the_record(tmp_path, monkeypatch):
    """A process killed between the two must not leave a record that keeps the run from being trained again."""
    run = small_run(1, "original")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "store", killed)
    with pytest.raises(KeyboardInterrupt):
        train(run, results=tmp_path, threads=1, weights=True)
    assert run.weights_path(tmp_path).exists() and records.read(run, tmp_path) is None


def test_weights_of_a_run_that_ended_without_them(run, tmp_path):
    record = train(run, results=tmp_path, threads=1)
    assert not run.weights_path(tmp_path).exists()
    with pytest.raises(UsageError, match="ended without keeping its weights: move .*seed-0.json away"):
        train(run, results=tmp_path, weights=True)
    (outcome,) = train_all([run], results=tmp_path, weights=True).values()
    assert isinstance(outcome, UsageError)
    assert train_all([run], results=tmp_path) == {run: record}


# --- what is evaluated


class Fixed(torch.nn.Module):
    """Gives the logits that it was made with, whatever the images."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        part, self.logits = self.logits[: len(images)], self.logits[len(images) :]
        return part


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 8), st.integers(0, 999))
def test_top_1_and_top_5_against_sorting(n, classes, batch, seed):
    random = np.random.default_rng(seed)
    logits = random.permuted(np.arange(n * classes)).reshape(n, classes).astype(np.float32)
    labels = random.integers(0, classes, n)
    ranks = [sorted(row, reverse=True).index(row[label]) for row, label in zip(logits, labels, strict=True)]
    images = torch.zeros(n, 3, 2, 2)
    batches = [(images[i : i + batch], torch.from_numpy(labels)[i : i + batch]) for i in range(0, n, batch)]
    score = evaluation.score(Fixed(torch.from_numpy(logits)), batches)
    assert score.top1 == pytest.approx(100 * np.mean([rank >= 1 for rank in ranks]))
    if classes > 5:
        assert score.top5 == pytest.approx(100 * np.mean([rank >= 5 for rank in ranks]))
    else:
        assert score.top5 is None


def test_given_mean_and_deviation_are_of_values_from_0_to_1():
    spec = NetworkSpec(8, channels=1)
    images = {"dataset": "digits", "mean": [0.25], "std": [0.5]}
    batches, words = evaluation.small_batches(spec, "digits", images, batch=7)
    found, labels = next(iter(batches))
    held = load_data("digits")
    expected = (held.x_test[:7].transpose(0, 3, 1, 2) / 255 - 0.25) / 0.5
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-5)
    assert labels.tolist() == held.y_test[:7].tolist() and "0.25" in words


@pytest.fixture
def pictures(tmp_path):
    """Six classes of two pictures each, of several shapes and modes, under val."""
    random = np.random.default_rng(0)
    for k in range(6):
        folder = tmp_path / "val" / f"class-{k}"
        folder.mkdir(parents=True)
        for name, size in (("a", (300, 400)), ("b", (640, 330))):
            Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return tmp_path


@pytest.mark.parametrize("crop, side", [(224, 256), (320, 320)])
def test_pictures_are_resized_and_cropped(pictures, crop, side):
    spec = NetworkSpec(50, branch="bottleneck", stem="imagenet", widths=(2, 2, 2, 2), classes=6)
    files = evaluation.test_files("folder", pictures)
    batches, *_ = evaluation.folder_batches(spec, files, None, crop, batch=5)
    found = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    assert found[0].shape == (12, 3, crop, crop) and found[1].tolist() == [k // 2 for k in range(12)]
    picture = Image.open(pictures / "val/class-0/a.png")  # 400 wide, 300 high
    small = picture.resize((side * 400 // 300, side), Image.Resampling.BILINEAR)
    left, top = round((small.width - crop) / 2), round((small.height - crop) / 2)
    pixels = np.asarray(small.crop((left, top, left + crop, top + crop)), dtype=np.float64) / 255
    expected = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(found[0][0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def evaluate(capsys, *arguments):
    status = main(["evaluate", "--device", "cpu", *map(str, arguments)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_evaluate_pictures(pictures, capsys):
    path = pictures / "x.safetensors"
    weights.save(path, NetworkSpec(50, "bottleneck", stem="imagenet", widths=(2, 2, 2, 2), classes=6).build())
    status, out, _ = evaluate(capsys, "--weights", path, "--dataset", "folder", "--data", pictures, "--crop", 320)
    assert status == 0 and "n = 12 images" in out and "shorter side 320, crop 320" in out and "0.485" in out
    status, out, err = evaluate(capsys, "--weights", path, "--dataset", "imagenet", "--data", pictures / "absent")
    assert (status, out) == (2, "") and f"{pictures / 'absent'}" in err and "--data" in err
    (pictures / "val/class-6").mkdir()
    assert "must hold images" in evaluate(capsys, "--weights", path, "--dataset", "folder", "--data", pictures)[2]
    (pictures / "val/class-5/c.png").write_bytes(b"no picture")
    (pictures / "val/class-6").rmdir()
    status, _, err = evaluate(capsys, "--weights", path, "--dataset", "folder", "--data", pictures)
    assert status == 2 and "class-5/c.png must be a picture" in err and err.count("\n") == 1
    (pictures / "val/class-6").mkdir()
    Image.new("RGB", (9, 9)).save(pictures / "val/class-6/a.png")
    err = evaluate(capsys, "--weights", path, "--dataset", "folder", "--data", pictures)[2]
    assert "3 channels to 6 classes" in err and "7 classes" in err


def test_evaluate_another_repositorys_checkpoint(tmp_path, capsys, monkeypatch):
    from test_foreign import small

    monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path / "empty"))
    torch.save(small(), tmp_path / "x.th")
    status, _, err = evaluate(capsys, "--weights", tmp_path / "x.th", "--layout", "akamaster", "--depth", 8)
    assert status == 2 and str(tmp_path / "empty") in err and "invoke data --dataset cifar10" in err
    err = evaluate(capsys, "--weights", tmp_path / "x.th", "--layout", "akamaster", "--depth", 8, "--data", tmp_path)[2]
    assert str(tmp_path / "cifar10.npz") in err
    torch.save(small() | {"conv1.weight": torch.randn(16, 1, 3, 3)}, tmp_path / "x.th")
    of_digits = "--dataset", "digits", "--mean", 0.5, "--std", 0.5
    args = ("--weights", tmp_path / "x.th", "--layout", "akamaster", "--depth", 8, *of_digits)
    status, out, _ = evaluate(capsys, *args)  # a foreign file carries no digest: what was read is told by its own
    assert status == 0 and f"x.th: SHA-256 {hashlib.sha256((tmp_path / 'x.th').read_bytes()).hexdigest()}" in out


def test_evaluate_by_another_normalisation(tmp_path, capsys):
    path = tmp_path / "x.safetensors"
    network = cifar_resnet(8, widths=(2, 3, 4), channels=1, seed=0)
    weights.save(path, network, images={"dataset": "digits", "mean": [0.25], "std": [0.5]})
    given = evaluate(capsys, "--weights", path, "--mean", 0.25, "--std", 0.5)[1]
    assert given == evaluate(capsys, "--weights", path)[1] and "mean (0.25), standard deviation (0.5)" in given
    assert f"SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}" in given
    other = evaluate(capsys, "--weights", path, "--mean", 0.75, "--std", 0.1)[1]
    images = (load_data("digits").x_test.transpose(0, 3, 1, 2).astype(np.float64) / 255 - 0.75) / 0.1
    with torch.no_grad():
        wrong = network.eval()(torch.from_numpy(images).float()).argmax(1).numpy() != load_data("digits").y_test
    assert percents(other)[0] == pytest.approx(100 * wrong.mean(), abs=0.005) and percents(other) != percents(given)
    weights.save(path, network)  # says nothing of images
    args = ("--weights", path, "--dataset", "digits", "--mean", 0.75, "--std", 0.1)
    assert evaluate(capsys, *args)[1].splitlines()[0] == other.splitlines()[0]


@pytest.mark.parametrize(
    "more, message",
    [
        (("--mean", 0.5, "--std", 0.1), r"mean must be 3 numbers, one a channel.*got \[0.5\]"),
        (("--mean", 0.5, 0.5, 0.5), "std must be 3 numbers.*got None"),
        (("--std", 0.5, 0.5, 0.5), "mean must be 3 numbers.*got None"),
        (("--mean", "nan", 0, 0, "--std", 1, 1, 1), "mean must be 3 numbers"),
        (("--mean", 0, 0, 0, "--std", 1, 1, 0), "std must be above 0"),
        (("--dataset", "mnist"), "dataset must be one of: .*got 'mnist'"),
        (("--crop", "256", "--dataset", "folder"), "crop must be one of: .*got 256"),
        (("--batch", "0"), "batch must be 1 image or more; got 0"),
        (("--precision", "fp8", "--dataset", "digits"), "precision must be one of"),
        (("--dataset", "digits"), "takes 3 channels to 10 classes; digits has 1 channels and 10 classes"),
        ((), "dataset must be one of: .*got None"),
        (("--layout", "resnet"), "layout must be one of"),
    ],
)
def test_mistakes_in_evaluate(kept, capsys, more, message):
    status, out, err = evaluate(capsys, "--weights", kept, *more)
    assert (status, out) == (2, "") and re.search(message, err) and err.count("\n") == 1


def test_the_mean_image_of_another_data_set(tmp_path, capsys):
    network = cifar_resnet(8, widths=(2, 3, 4), channels=1, classes=100)
    weights.save(tmp_path / "x.safetensors", network, images={"dataset": "digits", "normalisation": "pixel"})
    err = evaluate(capsys, "--weights", tmp_path / "x.safetensors", "--dataset", "digit-pairs")[2]
    assert "need images less the mean image of digits" in err
    err = evaluate(capsys, "--weights", tmp_path / "x.safetensors", "--dataset", "folder", "--data", tmp_path)[2]
    assert "normalised as digits is" in err
