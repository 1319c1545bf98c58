"""What the bench makes of its measurements, its two trainers, and what it refuses; never how fast anything is."""

import csv
import io
import json
import math
import re
import time
from dataclasses import replace

import pytest
import torch

from identity_mappings import UsageError
from identity_mappings.__main__ import main
from identity_mappings.machines import bench
from identity_mappings.pages import plots, show

CASE = bench.Case(depth=8, width=4, size=8, batch=16)
MEASURED = {"copy": 1e9, "matmul": {"fp32": 1e10, "bf16": 4e10}}
NAMES = ["baseline", "ours, fp32, R = 1", "ours, bf16, R = 2"]
ROUNDS = [[100.0, 150.0, 400.0], [50.0, 100.0, 100.0], [200.0, 220.0, 600.0]]


def test_ratios_are_taken_within_a_round():
    results = bench.summarise(CASE, NAMES, ROUNDS, MEASURED)
    assert [result["trainer"] for result in results] == NAMES
    assert results[0]["ratio"] == [1.0] * 3
    assert results[1]["ratio"] == [1.5, 2.0, 1.1]
    assert results[2]["images_per_second"] == [400.0, 100.0, 600.0]
    assert json.loads(json.dumps(results)) == results


def test_shares_of_the_floors_by_hand():
    """A device that copies 1 GB/s, on a net of 448 conv outputs an image more than a stem's, counted in test_counts."""
    elements = 4 * 64 * 3 + 8 * 16 * 2 + 16 * 4 * 2
    macs = 9 * (3 * 4 * 64 + 2 * 4 * 4 * 64 + (4 * 8 + 8 * 8) * 16 + (8 * 16 + 16 * 16) * 4) + 160
    by_bytes, by_arithmetic = bench.shares(CASE, "fp32", 1000.0, MEASURED)
    assert by_bytes == pytest.approx(1000 * 16 * elements * 4 / 1e9)
    assert by_arithmetic == pytest.approx(1000 * 6 * macs / 1e10)
    half, quarter = bench.shares(CASE, "bf16", 1000.0, MEASURED)
    assert (half, quarter) == pytest.approx((by_bytes / 2, by_arithmetic / 4))


def test_the_table_gives_median_and_range():
    lines = bench.table(bench.summarise(CASE, NAMES, ROUNDS, MEASURED)).splitlines()
    assert [cell.strip() for cell in lines[0].split("  ") if cell] == list(bench.HEADER)
    cells = [cell.strip() for cell in lines[3].split("  ") if cell.strip()]
    assert cells[:6] == ["ResNet-8, 4 channels, 8 x 8", "ours, bf16, R = 2", "400", "100-600", "3.00", "2.00-4.00"]


def test_an_epoch_has_its_evaluation():
    """Of two runs that take turns: 50,000 images at the median of 400 a second, and half of ten seconds."""
    results = bench.summarise(CASE, NAMES, ROUNDS, MEASURED, [None, 3.0, 10.0])
    assert [result["epoch_seconds"] for result in results] == [None, 50_000 / 150 + 3, 50_000 / 400 + 5]
    assert bench.table(results).splitlines()[3].split()[-1] == "130.0"


def test_both_trainers_train_the_same_network():
    theirs, mine = bench.Baseline(CASE, "cpu"), bench.Ours(CASE, "cpu", "fp32")
    (_, step, _), begin = mine.runs[0], mine.runs[0][1].sgd.weights.clone()
    assert mine.evaluation() > 0 and step.network.training
    before = [parameter.clone() for parameter in theirs.network.parameters()]
    for iterate in (theirs, mine, mine):
        iterate()
    assert step.counter.item() == 2 and not torch.equal(step.sgd.weights, begin)
    after = list(theirs.network.parameters())
    assert not any(torch.equal(p, q) for p, q in zip(after, before, strict=True))
    assert [p.shape for p in after] == [p.shape for p in step.network.parameters()]


def test_the_command_prints_and_writes_what_it_measured(tmp_path, capfd):
    path = tmp_path / "bench.json"
    arguments = "bench --depth 8 --width 4 --size 8 --batch 16 --runs 1 --precision fp32 --seconds 0.05 --repeats 2"
    assert main([*arguments.split(), "--device", "cpu", "--json", str(path)]) == 0
    outcome, printed = json.loads(path.read_text()), capfd.readouterr().out
    assert bench.table(outcome["results"]) in printed and outcome["baseline"] in printed
    assert [result["trainer"] for result in outcome["results"]] == NAMES[:2]
    assert all(rate > 0 for result in outcome["results"] for rate in result["images_per_second"])
    assert outcome["versions"]["torch"] == torch.__version__ and outcome["device"] in printed
    assert outcome["device_type"] == "cpu"


@pytest.mark.parametrize("name", ["a-folder", "a-file/bench.json"])
def test_a_file_that_cannot_be_written_is_noticed_before_the_measurement(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "a-folder").mkdir()
    (tmp_path / "a-file").touch()
    monkeypatch.setattr(bench, "bench", lambda *_: pytest.fail("it measured"))
    assert main(["bench", "--json", str(tmp_path / name)]) == 2
    assert re.fullmatch(".*(Is a directory|File exists|Not a directory): move away .*\n", capsys.readouterr().err)


def test_a_missing_folder_for_the_results_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "bench", lambda *_: {"results": []})
    assert main(["bench", "--json", str(tmp_path / "new" / "bench.json")]) == 0
    assert json.loads((tmp_path / "new" / "bench.json").read_text()) == {"results": []}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"runs": [3]}, "runs at once on a CPU are at most its cores, 2; got 3"),
        ({"runs": [0]}, "runs must be a whole number from 1 to 1,000; got 0"),
        ({"seconds": 0}, "seconds must be more than 0 and at most 3,600; got 0"),
        ({"seconds": math.inf}, "seconds must be .* at most 3,600; got inf"),
        ({"seconds": math.nan}, "seconds must be .* at most 3,600; got nan"),
        ({"batch": 6000}, "batch must be a whole number from 1 to 5,000; got 6000"),
        ({"depths": [60_002]}, "depth must be a whole number from 1 to 2,000; got 60002"),
        ({"width": 1, "size": 4096, "batch": 1}, "ResNet-20, 1 channels, 4096 x 4096 .* needs about"),
        ({"precisions": ["fp8"]}, "precision must be one of: .*got 'fp8'"),
        ({"depths": [1001]}, "ResNet-1001, 32 x 32 in batches of 128 needs about 37 GiB .* 8 GiB are free: choose"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes, message):
    given = {"depths": [20], "runs": [1], "precisions": ["fp32"], "seconds": 1, "repeats": 1, "batch": 128, "size": 32}
    given |= {"width": 16, "device": "cpu", "cores": 2, "available": 8 * 2**30}
    with pytest.raises(UsageError, match=message):
        bench.checked(**given | changes)


def dies():
    raise SystemExit


class Mortal:
    def __call__(self):
        time.sleep(0.01)


def test_a_process_that_is_killed_between_measurements_is_one_line():
    trainer = bench.Trainer("killed", Mortal, (), 128)
    (process, _) = trainer.workers[0]
    process.kill()
    process.join()
    with pytest.raises(UsageError, match="a process of 'killed' ended by itself"):
        trainer.measure(0.1)
    trainer.stop()


def test_a_process_that_dies_is_one_line(capfd):
    with pytest.raises(UsageError, match="a process of 'doomed' ended by itself"):
        bench.Trainer("doomed", dies, (), 1)


def outcome_of(device, device_type, results):
    """What a bench would write, with these results."""
    return {
        "baseline": "a plain loop",
        "data": "synthetic images",
        "device": device,
        "device_type": device_type,
        "cores": 2,
        "seconds": 5.0,
        "repeats": 3,
        "versions": {"torch": "2.6"},
        "results": results,
    }


def test_a_page_shows_the_benches_of_a_folder(tmp_path):
    result = {"case": {"name": "ResNet-8"}, "trainer": "ours", "images_per_second": [90.0, 110.0, 100.0]}
    outcome = outcome_of("a chip", "cpu", [result | {"ratio": [1.0, 1.5, 1.25]}])
    assert show.benches(tmp_path).data == show.bench_chart(tmp_path).data == "Not measured."
    (tmp_path / "bench.json").write_text(json.dumps(outcome))
    text = show.benches(tmp_path).data
    assert "| ResNet-8 | ours | 100 (90 to 110) | 1.25 (1.00 to 1.50) |" in text
    assert "a chip, 2 cores, torch 2.6; 3 rounds of 5 seconds; synthetic images. The baseline: a plain loop." in text


def whiskers(axis):
    """(smallest, median, largest, row) of each mark with whiskers, from what is drawn."""
    drawn = []
    for line, _, (bar,) in axis.containers:
        (median, row), ((smallest, _), (largest, _)) = line.get_xydata()[0], bar.get_segments()[0]
        drawn.append(tuple(round(float(value), 6) for value in (smallest, median, largest, row)))
    return drawn


def test_the_chart_draws_what_was_measured():
    """A panel a case in the order of the results, the baseline's own left out; floors for CUDA alone."""
    results = bench.summarise(CASE, NAMES, ROUNDS, MEASURED)
    outcomes = [outcome_of("a chip", "cpu", results), outcome_of("a card", "cuda", results)]
    outcomes[1]["results"] = results + bench.summarise(replace(CASE, depth=14), NAMES[:2], ROUNDS, MEASURED)
    axes = plots.bench(outcomes).axes
    left, right = axes[::2], axes[1::2]
    assert [axis.get_title("left") for axis in left] == [
        "ResNet-8, 4 channels, 8 x 8: a chip",
        "ResNet-8, 4 channels, 8 x 8: a card",
        "ResNet-14, 4 channels, 8 x 8: a card",
    ]
    assert whiskers(left[0]) == whiskers(left[1]) == [(1.1, 1.5, 2.0, 0.0), (2.0, 3.0, 4.0, 1.0)]
    assert [label.get_text() for label in left[1].get_yticklabels()] == ["fp32, R = 1", "bf16, R = 2"]
    assert [axis.get_visible() for axis in right] == [False, True, True]
    shown = [mark.get_xdata()[0] for mark in right[1].lines]
    measured = [result[f"share_of_{floor}_floor"] for result in results[1:] for floor in ("byte", "arithmetic")]
    assert shown == pytest.approx([100 * share for share in measured])
    assert len(plots.bench(outcomes[:1]).axes) == 1  # no floors, no place for them


def test_the_charts_text_and_file_hold_its_numbers(tmp_path):
    results = bench.summarise(CASE, NAMES, ROUNDS, MEASURED)
    for name, device_type in (("a card", "cuda"), ("a chip", "cpu")):
        (tmp_path / f"{name}.json").write_text(json.dumps(outcome_of(name, device_type, results)))
    picture = show.bench_chart(tmp_path)
    assert "8 x 8, a chip, ours, bf16, R = 2: 3.00 (2.00 to 4.00)." in picture.alt
    assert "8 x 8, a card, ours, bf16, R = 2: 3.00 (2.00 to 4.00), of the byte floor" in picture.alt
    lines = list(csv.DictReader(io.StringIO(picture.csv())))
    assert [float(line["times the baseline"]) for line in lines] == [1.0, 1.5, 3.0] * 2
    assert float(lines[1]["of bytes"]) == results[1]["share_of_byte_floor"] and lines[4]["of bytes"] == ""


def test_an_outcome_says_what_kind_of_device_it_is_of(tmp_path):
    """Those written before it did were all of CPUs."""
    old = outcome_of("a chip", "cpu", [])
    del old["device_type"]
    assert not plots.has_floors(old) and plots.has_floors(outcome_of("a card", "cuda", []))


def test_the_aims_are_held_against_what_two_cores_did(tmp_path):
    """One that is reached, one that is not, one measured on more cores, one on CUDA: the last two count for nothing."""
    narrow, ratios = {"case": {"name": "ResNet-110, 8 channels, 16 x 16"}}, [1.75, 2.5, 1.5]
    usual = {"case": {"name": "ResNet-110, 32 x 32"}, "trainer": "ours, fp32, R = 1", "ratio": [1.0, 1.25, 1.25]}
    found = {
        "small": outcome_of("a chip", "cpu", [narrow | {"trainer": "ours, bf16, R = 2", "ratio": ratios}, usual]),
        "large": outcome_of("a chip", "cpu", [narrow | {"trainer": "ours, fp32, R = 2", "ratio": [3.0]}])
        | {"cores": 4},
        "card": outcome_of("a card", "cuda", [usual | {"trainer": "ours, bf16, R = 1", "ratio": [9.0]}]),
    }
    found["large"]["cores"] = 4
    for name, outcome in found.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(outcome))
    lines = [line for line in show.aims(tmp_path).data.splitlines() if line.startswith("|")]
    assert lines[2:] == [
        "| ResNet-110, 32 x 32 | ours, fp32, R = 1 | 1.15 | 1.25 (1.00 to 1.25) | yes |",
        "| ResNet-110, 32 x 32 | ours, bf16, R = 1 | 1.5 | not measured |  |",
        "| ResNet-110, 8 channels, 16 x 16 | ours, fp32, R = 2 | 2 | not measured |  |",
        "| ResNet-110, 8 channels, 16 x 16 | ours, bf16, R = 2 | 2 | 1.75 (1.50 to 2.50) | no |",
    ]
