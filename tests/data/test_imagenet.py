"""Pictures in files: the folder and what is wrong with it, crops against Pillow and torchvision, batches and shares."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import imagenet as torchvisions
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from identity_mappings import UsageError
from identity_mappings.data import crops, drawn, imagenet, jpeg
from identity_mappings.data.pictures import Pictures, Share
from identity_mappings.experiments.protocols import IMAGENET, IMAGENET_ASPECT

SMALL = replace(IMAGENET, batch=8, bn_group=2, crop=32, shorter=(36, 68))


def picture(height, width, seed=0):
    return drawn.draw(seed % 10, np.random.RandomState(seed), (max(height, width), max(height, width))).resize(
        (width, height)
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three classes in ImageNet's layout, with 3 to 5 pictures each for training and 2 for validation."""
    root = tmp_path_factory.mktemp("imagenet")
    for part, counts in (("train", (3, 4, 5)), ("val", (2, 2, 2))):
        for label, count in enumerate(counts):
            place = root / part / f"n0{label}"
            place.mkdir(parents=True)
            for k in range(count):
                picture(60 + 7 * k, 80 - 5 * k, 10 * label + k).save(place / f"n0{label}_{k}.JPEG", quality=92)
    return root


@pytest.fixture
def copy(root, tmp_path):
    return Path(shutil.copytree(root, tmp_path / "copy"))


# --- the folder


def test_the_files_of_each_class_in_order(root):
    found = imagenet.photographs("imagenet", root)
    assert found.names == ("n00", "n01", "n02") and found.train.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 5
    assert found.train.path(3) == root / "train/n01/n01_0.JPEG" and len(found.test) == 6


def test_the_checksum_is_of_names_and_sizes(copy):
    before = imagenet.photographs("imagenet", copy).checksum
    assert imagenet.photographs("imagenet", copy).checksum == before
    with open(copy / "val/n00/n00_0.JPEG", "ab") as file:
        file.write(b"more")
    assert imagenet.photographs("imagenet", copy).checksum != before


def test_what_is_wrong_with_a_folder_in_one_line(copy, tmp_path, monkeypatch):
    monkeypatch.setenv(imagenet.PLACE, str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="^imagenet needs train/<class>.*there is no .*nowhere/train: .*--data or"):
        imagenet.load("imagenet")
    monkeypatch.setenv(imagenet.PLACE, str(copy))
    with pytest.raises(UsageError, match="must have 1000 classes, each a folder under .*train; got 3: complete it"):
        imagenet.load("imagenet-100")
    (copy / "val/n02").rename(copy / "val/n03")
    with pytest.raises(UsageError, match=r"must have the same classes; 2 are in one of them only \(n02\)"):
        imagenet.photographs("imagenet", copy)
    shutil.rmtree(copy / "train/n01")
    (copy / "train/n01").mkdir()
    with pytest.raises(UsageError, match="train/n01 must hold images; it holds none"):
        imagenet.photographs("imagenet", copy)


def test_every_tenth_class(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet, "CLASSES", 30)
    monkeypatch.setenv(imagenet.PLACE, str(tmp_path))
    for part in ("train", "val"):
        for k in range(30):
            place = tmp_path / part / f"n{k:02}"
            place.mkdir(parents=True)
            (place / "one.JPEG").write_bytes(b"x" * k)
    found = imagenet.load("imagenet-100")
    assert found.names == ("n00", "n10", "n20") and found.classes == 3
    assert found.train.labels.tolist() == found.test.labels.tolist() == [0, 1, 2]
    assert found.test.path(2) == tmp_path / "val/n20/one.JPEG" and found.test.bytes.tolist() == [0, 10, 20]


def test_a_flat_validation_folder_is_labelled_by_the_development_kit(copy):
    """As its archive unpacks: numbered pictures, whose classes stand in the kit in their order."""
    truth = ["n02", "n00", "n01", "n00"]
    shutil.rmtree(copy / "val")
    (copy / "val").mkdir()
    for k in range(len(truth)):
        picture(40, 40, k).save(copy / f"val/ILSVRC2012_val_{k + 1:08}.JPEG")
    with pytest.raises(UsageError, match="is flat, and its labels stand in ILSVRC2012_devkit_t12.tar.gz"):
        imagenet.photographs("imagenet", copy)
    torch.save(({}, truth), copy / torchvisions.META_FILE)  # as torchvision keeps what it read of the kit
    found = imagenet.photographs("imagenet", copy)
    assert found.test.labels.tolist() == [2, 0, 1, 0] and found.test.path(0).name == "ILSVRC2012_val_00000001.JPEG"
    (copy / "val/ILSVRC2012_val_00000004.JPEG").unlink()
    with pytest.raises(UsageError, match="must hold the 4 pictures of the ground truth; got 3"):
        imagenet.photographs("imagenet", copy)


def test_pictures_are_drawn_once_and_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "PICTURES", {"train": 2, "val": 1})
    for place in ("one", "other"):
        monkeypatch.setenv("IDENTITY_MAPPINGS_DATA", str(tmp_path / place))
        found = imagenet.load("drawn")
        assert (len(found.train), len(found.test), found.names) == (20, 10, drawn.CLASSES)
        sizes = {Image.open(found.train.path(k)).size for k in range(20)}
        assert len(sizes) > 10
    folder = f"drawn-{drawn.VERSION}"
    one, other = (imagenet.photographs("drawn", tmp_path / place / folder) for place in ("one", "other"))
    assert one.checksum == other.checksum
    assert not list(tmp_path.rglob("*.partial"))


# --- crops


@pytest.mark.parametrize("decode", [jpeg.decoder(), None], ids=["simplejpeg", "Pillow"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_both_decoders_give_pillows_pixels(tmp_path, monkeypatch, decode, mode):
    monkeypatch.setattr(jpeg, "decoder", lambda: decode)
    path = tmp_path / "x.JPEG"
    picture(50, 70).convert(mode).save(path, quality=85)
    found = jpeg.Picture(path)
    assert (found.height, found.width) == (50, 70)
    pixels = found.cut((0, 0, 70, 50), (50, 70))
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize("height, width", [(300, 400), (640, 330), (257, 256)])
@pytest.mark.parametrize("side, crop", [(256, 224), (320, 320)])
def test_the_central_crop_is_torchvisions(tmp_path, height, width, side, crop):
    path = tmp_path / "x.JPEG"
    picture(height, width).save(path)
    found = jpeg.Picture(path)
    pixels = crops.central(found.whole(crops.resized(height, width, side)), crop)
    steps = v2.Compose([v2.Resize(side), v2.CenterCrop(crop)])
    np.testing.assert_array_equal(pixels, np.asarray(steps(Image.open(path).convert("RGB"))))


@pytest.mark.parametrize("place", [(0, 0), (31, 7), (76, 120)])
def test_a_cut_is_that_of_the_resized_picture(tmp_path, place):
    path = tmp_path / "x.JPEG"
    picture(375, 500).save(path)
    whole = Image.open(path).resize((400, 300), Image.Resampling.BILINEAR)
    top, left = place
    box = tuple(1.25 * value for value in (left, top, left + 224, top + 224))
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224)))
    apart = jpeg.Picture(path).cut(box, (224, 224)).astype(int) - expected
    assert abs(apart).max() <= 1  # a box's corners are 32-bit numbers in Pillow


@pytest.mark.parametrize("factor", [2, 5])
def test_a_scaled_decoding_is_near_the_whole_one(tmp_path, factor):
    path = tmp_path / "x.JPEG"
    picture(400, 300).save(path, quality=95)
    size, box = (200 // factor, 100 // factor), (50, 100, 150, 300)
    exact = np.asarray(Image.open(path).resize(size[::-1], Image.Resampling.BILINEAR, box=box)).astype(int)
    found = jpeg.Picture(path)
    assert abs(found.cut(box, size) - exact).mean() < 8
    assert max(found._decoded(factor).size) < 400


sides = st.integers(40, 900)


@given(sides, sides, st.integers(0, 10_000))
@example(41, 40, 474)  # resized to (262, 256): the longer side is rounded down by 0.4 pixels
def test_training_crops_lie_inside_and_have_their_scale(height, width, seed):
    random = np.random.RandomState(seed)
    left, top, right, bottom = crops.training_box(height, width, IMAGENET, random)
    assert -1e-9 <= left < right <= width + 1e-6 and -1e-9 <= top < bottom <= height + 1e-6
    lengths = height * 224 / (bottom - top), width * 224 / (right - left)  # of the resized picture
    shorter, longer = lengths if height <= width else lengths[::-1]
    assert 255.9 <= shorter <= 480.1 and abs(shorter - round(shorter)) < 1e-6
    assert -1e-6 <= shorter * max(height, width) / min(height, width) - longer < 1
    left, top, right, bottom = crops.training_box(height, width, IMAGENET_ASPECT, random)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_scales_and_places_are_uniform():
    boxes = [crops.training_box(480, 600, IMAGENET, np.random.RandomState(k)) for k in range(3000)]
    shorter = np.array([480 * 224 / (bottom - top) for _, top, _, bottom in boxes])
    assert abs(shorter.mean() - 368) < 4 and abs(np.quantile(shorter, 0.1) - 278.4) < 5
    down = np.array([top / (480 - (bottom - top)) for _, top, _, bottom in boxes])
    assert abs(down.mean() - 0.5) < 0.02 and down.min() < 0.01 and down.max() > 0.99


def test_areas_and_shapes_are_googlenets():
    boxes = [crops.training_box(500, 500, IMAGENET_ASPECT, np.random.RandomState(k)) for k in range(3000)]
    areas = np.array([(right - left) * (bottom - top) for left, top, right, bottom in boxes]) / 500**2
    shapes = np.array([(right - left) / (bottom - top) for left, top, right, bottom in boxes])
    assert areas.min() >= 0.079 and shapes.min() >= 0.73 and shapes.max() <= 1.37
    assert abs(np.log(shapes).mean()) < 0.01  # as often wide as high


# --- colour


def test_jitter_against_torchvision():
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors, order = [0.7, 1.3, 0.6], [2, 0, 1]  # of brightness, contrast, saturation; saturation first
    colour = torch.tensor([[0.0] * 3 + factors + order] * 3, dtype=torch.float64)
    grey = functional.rgb_to_grayscale
    expected = x
    for kind in order:
        about = [torch.zeros(()), grey(expected).mean((2, 3), keepdim=True), grey(expected)][kind]
        expected = about + factors[kind] * (expected - about)  # torchvision's blend, without its clamp
    protocol = replace(IMAGENET_ASPECT, lighting=0.0)
    torch.testing.assert_close(crops.coloured(x, colour, protocol), expected, rtol=0, atol=1e-3)


def test_lighting_moves_along_the_components():
    x = torch.zeros(2, 3, 4, 4)
    colour = torch.tensor([[0.1, 0, 0, 1, 1, 1, 0, 1, 2], [0, 0, -0.2, 1, 1, 1, 0, 1, 2]])
    found = crops.coloured(x, colour, IMAGENET)[:, :, 0, 0]
    first, last = (-0.5675, -0.5808, -0.5836), (0.4009, -0.8140, 0.4203)
    expected = [[0.1 * 0.2175 * value for value in first], [-0.2 * 0.0045 * value for value in last]]
    torch.testing.assert_close(found, torch.tensor(expected))
    components = torch.tensor(crops.COMPONENTS)
    torch.testing.assert_close(components.T @ components, torch.eye(3), rtol=0, atol=2e-3)


# --- batches


def stream(root, share=None, seed=0, protocol=SMALL, workers=0):
    files = imagenet.photographs("imagenet", root).train
    return Pictures(files, protocol, workers=workers, share=share).batches(protocol, seed)


def taken(batches, iterations):
    found = []
    for iteration in iterations:
        batches.bring(iteration)
        found.append([torch.cat(each) for each in zip(*batches.parts(), strict=True)])
    return found


def test_a_batch_is_the_same_however_it_is_shared(root):
    whole = taken(stream(root), range(3))
    for size, part in ((1, 2), (2, 4), (2, 2), (4, 2)):
        shares = [taken(stream(root, Share(part, rank, size)), range(3)) for rank in range(size)]
        for iteration, (images, labels) in enumerate(whole):
            assert torch.equal(torch.cat([share[iteration][0] for share in shares]), images)
            assert torch.equal(torch.cat([share[iteration][1] for share in shares]), labels)


def test_a_batch_follows_from_seed_and_iteration(root):
    first = taken(stream(root), range(4))
    (later,) = taken(stream(root), [3])
    assert torch.equal(later[0], first[3][0]) and torch.equal(later[1], first[3][1])
    assert not torch.equal(first[0][0], taken(stream(root, seed=1), [0])[0][0])
    (by_workers,) = taken(stream(root, workers=2), [3])
    assert torch.equal(later[0], by_workers[0])


def test_an_epoch_has_each_picture_once(root):
    keys = [key for i in range(3) for part in stream(root).keys(i) for key in part]
    assert sorted(index for index, epoch, _ in keys if epoch == 0) == list(range(12))
    assert sorted(index for index, epoch, _ in keys if epoch == 1) == list(range(12))


def test_a_damaged_picture_is_left_out_of_training_and_named(copy):
    bad = copy / "train/n01/n01_1.JPEG"
    bad.write_bytes(bad.read_bytes()[:500])
    batches = stream(copy)
    found = taken(batches, range(3))
    assert len(batches.damaged) == 1 and str(bad) in next(iter(batches.damaged))
    assert all(images.shape == (8, 3, 32, 32) for images, _ in found)
    index = [str(p.decode()) for p in batches.images.files.paths].index("n01/n01_1.JPEG")
    place = [key[0] for part in batches.keys(0) for key in part]
    if index in place:
        assert found[0][1][place.index(index)] == 1  # the next picture of the folder, of the same class


@pytest.mark.parametrize("augmentation", ["scale", "scale and aspect ratio"])
def test_what_the_device_decodes_is_what_the_processor_does(root, augmentation):
    """The GPU's way with torchvision's own decoder for the CPU in nvJPEG's place; pictures too small to be scaled."""
    protocol = replace(SMALL, crop=48, shorter=(50, 100), augmentation=augmentation)
    files = imagenet.photographs("imagenet", root).train
    found = []
    for on_device in (False, True):
        batches = Pictures(files, protocol, share=Share(4), on_device=on_device).batches(protocol, 0)
        batches.bring(0)
        found.append(list(batches.parts()))
    for (ours, labels), (theirs, other) in zip(*found, strict=True):
        apart = (ours - theirs).abs() * 255 * torch.tensor(protocol.std)[:, None, None]
        assert torch.equal(labels, other) and ours.shape == theirs.shape and apart.max() < 1.01  # of 255


def test_the_device_leaves_the_damaged_and_the_uncommon_to_the_processor(copy):
    (copy / "train/n00/n00_1.JPEG").write_bytes((copy / "train/n00/n00_1.JPEG").read_bytes()[:400])
    Image.new("CMYK", (70, 60), (9, 99, 20, 7)).save(copy / "train/n00/n00_2.JPEG")
    files, found = imagenet.photographs("imagenet", copy).train, []
    for on_device in (False, True):
        protocol = replace(SMALL, batch=12)
        batches = Pictures(files, protocol, on_device=on_device).batches(protocol, 0)
        batches.bring(0)
        ((pixels, labels),) = batches.parts()
        found.append((labels.tolist(), batches.damaged))
    assert found[0] == found[1] and len(found[0][1]) == 1


@pytest.mark.parametrize(
    "value, device, message",
    [
        ("gpu", "cpu", "DECODE is gpu, and this trains on the CPU: unset it, or train with --device cuda"),
        ("gqu", "cuda", "DECODE must be one of: gpu, cpu; got 'gqu'"),
    ],
)
def test_where_pictures_are_decoded(monkeypatch, value, device, message):
    assert not jpeg.on_gpu("cuda")
    monkeypatch.setenv(jpeg.DECODE, value)
    with pytest.raises(UsageError, match=message):
        jpeg.on_gpu(device)


def test_the_gpu_decodes_where_it_is_told_to(monkeypatch):
    monkeypatch.setenv(jpeg.DECODE, "gpu")
    assert jpeg.on_gpu("cuda") and re.fullmatch(r"torchvision \S+ on the GPU", jpeg.name(True))
    monkeypatch.setattr(jpeg, "decoder", lambda: None)
    with pytest.raises(UsageError, match="DECODE=gpu needs simplejpeg"):
        jpeg.on_gpu("cuda")


def test_an_evaluation_leaves_no_picture_out(copy):
    bad = copy / "val/n02/n02_1.JPEG"
    bad.write_bytes(b"no picture")
    pictures = Pictures(imagenet.photographs("imagenet", copy).test, SMALL)
    with pytest.raises(UsageError, match="n02_1.JPEG must be a picture; it cannot be read .*: replace it"):
        list(pictures.test(36, 32, 4))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_processes_see_each_test_picture_once(root, size):
    pictures = Pictures(imagenet.photographs("imagenet", root).test, SMALL)
    (whole,) = [torch.cat(each) for each in list(zip(*pictures.test(36, 32, 4), strict=True))[:1]]
    each = [[images for images, _ in pictures.test(36, 32, 2, rank, size)] for rank in range(size)]
    found = [image for part in each for images in part for image in images]
    assert len(found) == 6
    assert sorted(float(image.sum()) for image in found) == pytest.approx(sorted(float(x.sum()) for x in whole))
