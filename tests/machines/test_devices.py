"""Where devices disagree on a row, and who contributed."""

import math

import pytest
from conftest import small_run

from identity_mappings.machines import devices
from identity_mappings.pages import show
from identity_mappings.results import records

ABOUT = {"versions": {"torch": "2.6.0"}, "wall_seconds": 60.0}


def made(outcome, results, device, errors, first=0, id="original", **more):
    for seed, error in enumerate(errors, first):
        given = outcome(error) if error is not None else outcome(None, "diverged")
        records.write(small_run(1, id, seed=seed), given | ABOUT | {"device": device, **more}, results)


@pytest.mark.parametrize(
    "other, verdict",
    [
        ((10.2, 10.4, 10.6), "agree"),
        ((12.0, 12.1, 12.2), "disagree"),
        ((10.5, None, 10.3, 10.4), "agree"),
        ((12.0,), "too few runs to tell"),
        ((12.0, None), "too few runs to tell"),
    ],
)
def test_devices_agree_within_their_spreads(tmp_path, outcome, other, verdict):
    made(outcome, tmp_path, "A", (10.1, 10.3, 10.5))
    made(outcome, tmp_path, "B", other, first=10)
    (pair,) = devices.pairs(tmp_path)  # one, though four tables print this row
    assert pair.verdict == verdict and pair.devices == (("A", "fp32"), ("B", "fp32"))
    assert ("± " in devices.markdown(tmp_path)) == (verdict != "too few runs to tell")
    assert f"| {verdict} |\n" in devices.markdown(tmp_path)


def test_the_interval_by_hand(tmp_path, outcome):
    made(outcome, tmp_path, "A", (1.0, 2.0, 3.0))
    made(outcome, tmp_path, "B", (5.0, 5.0), first=10)
    (pair,) = devices.pairs(tmp_path)
    assert pair.gap == -3.0
    assert pair.half_width == pytest.approx(4.303 * 1 / math.sqrt(3))  # of A alone: B's two are the same


def test_one_device_alone_is_no_pair(tmp_path, outcome):
    assert devices.markdown(tmp_path) == "No row has runs of two kinds of device yet."
    made(outcome, tmp_path, "A", (10.1, 10.3))
    made(outcome, tmp_path, "B", (10.1, 10.3), id="conv-1x1")
    assert devices.pairs(tmp_path) == []


def test_contributors_are_named(tmp_path, outcome, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    made(outcome, tmp_path, "A", (10.1,))
    assert devices.contributors(tmp_path) == "No run has been contributed yet."
    made(outcome, tmp_path, "T4", (10.1, 10.2), first=5, contributed={"by": "Ada", "received": "2026-11-24"})
    shown = show.provenance(1, "original", "smoke", small_run(1, "original").reduction.name)
    assert shown.data.count("T4, fp32, by Ada") == 2 and "A, fp32 " in shown.data
    assert "Ada | T4 | fp32 | 2" in devices.contributors(tmp_path).replace("  ", " ")
