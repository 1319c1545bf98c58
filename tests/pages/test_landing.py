"""The landing page: its sentence and its charts follow from the records, and one run is never told as a verdict."""

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.runs import Run, place
from identity_mappings.pages.book import landing
from identity_mappings.results import records

DEEP = {"original": "cifar10-1001-original", "pre-activation": "cifar10-1001-pre-activation"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("IDENTITY_MAPPINGS_RESULTS", str(tmp_path))
    return tmp_path


@pytest.fixture
def watched(outcome, results):
    """Writes watched runs of ResNet-1001: the errors of one unit's seeds."""

    def write(unit, *errors):
        (row,) = paper.rows(3, [DEEP[unit]])
        for seed, error in enumerate(errors):
            fields = dict.fromkeys(
                ("negative", "truncated", "signal", "residual", "mean", "deviation", "gradient"), [0.1]
            )
            made = outcome(error) | {"units": [{"iteration": 0, **fields}], "images": 64}
            records.write(Run(*place(row, ""), "smoke", seed, watched=True), made)

    return write


def test_without_records_the_page_tells_the_papers_claim(results):
    text = landing.result().data
    assert text.startswith(landing.CLAIM) and text.endswith(landing.PROMISE)


def test_a_thousand_layers_are_told_from_their_records(watched):
    watched("original", 90.2)
    assert landing.of_the_depth() == ""  # one unit alone is no comparison
    watched("pre-activation", 15.8)
    text = landing.result().data
    assert (
        "On scikit-learn's digits, 1001 layers of original units end at a test error of 90.2 %, which is a guess,"
        in text
    )
    assert "at 15.8 % ([smoke tier](inside.md), one run of each, which decides nothing)." in text


def test_several_runs_of_a_thousand_layers_are_told_as_medians(watched):
    watched("original", 40.0, 60.0, 50.0)
    watched("pre-activation", 15.0, 16.0, 17.0)
    text = landing.of_the_depth()
    assert "error of 50.0 % and 1001" in text and "at 16.0 %" in text and "the median of 3 runs of each" in text


def test_a_single_pair_of_runs_is_no_result(put, results):
    put(2, "110-original", (48.8,), "pocket")
    put(2, "110-full-pre-activation", (38.6,), "pocket")
    assert landing.result().data.startswith(landing.CLAIM)
    for id, errors in (("110-original", (48.8, 49.0, 48.5)), ("110-full-pre-activation", (38.6, 38.9, 38.2))):
        put(2, id, errors, "pocket")
    assert "ResNet-110 ends 10.2 ± " in landing.result().data


def test_the_gradients_picture_tells_what_it_draws():
    """Identities keep the gradients of 54 units together; a factor on every shortcut drives them apart."""
    picture = landing.gradients()
    identity, scaled, plain = (picture.data[label] for label in landing.SCALED)
    assert len(identity) == 54
    times = [norms[0] / norms[-1] for norms in (identity, scaled, plain)]
    assert times[0] < 1_000 < times[1] < times[2]
    rounded = float(f"{times[1]:.2g}")  # to two digits
    assert f"a factor of {rounded:,.0f} (0.5 on the shortcut)" in picture.words and picture.words.endswith("</a>.")
