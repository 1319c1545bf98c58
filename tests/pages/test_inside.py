"""What the book shows of watched runs: from their records alone, and "not run" where there are none."""

import json
import re

import pytest

from identity_mappings.experiments import paper
from identity_mappings.experiments.protocols import Reduction
from identity_mappings.experiments.runs import Run, place
from identity_mappings.pages import inside
from identity_mappings.results import records, watching
from identity_mappings.results.claims import CLAIMS
from identity_mappings.results.ledger import claim_verdicts

FIELDS = ("negative", "truncated", "signal", "residual", "mean", "deviation", "gradient")


@pytest.fixture
def put(outcome, tmp_path):
    """Writes the record of a watched run of three units: the truncated share before training and at its end."""

    def write(id, first, last, seed=0, tier="smoke", cut=Reduction(), status="finished"):
        (row,) = paper.rows(3, [id])
        run = Run(*place(row, ""), tier, seed, cut, watched=True)
        units = [
            {"iteration": at, **{field: [share, share + 0.1, share + 0.2] for field in FIELDS}}
            for at, share in ((0, first), (run.recipe.protocol.iterations, last))
        ]
        made = outcome(50.0 + seed if status == "finished" else None, status) | {
            "units": units,
            "images": 64,
            "wall_seconds": 10.0,
        }
        made |= {"device": "a CPU", "versions": {"torch": "3"}}
        records.write(run, made, tmp_path)
        return tmp_path

    return write


def test_without_records_every_line_says_so(tmp_path):
    assert inside.course(tmp_path).count("not run") == 4
    assert inside.said(tmp_path).count("not run.") == 2
    assert (inside.words(tmp_path), inside.provenance(tmp_path)) == ("not run", "Not run.")
    for picture in (inside.truncation(tmp_path), inside.gradients(tmp_path)):
        assert picture.svg().count("not run") >= 2 and picture.data == {"unit": []}


@pytest.mark.parametrize(
    "shallow, deep, rarer, deeper",
    [
        ((0.5, 0.1), (0.5, 0.3), "seen (n = 3, -40.0 ± 2.5)", "seen (n = 3, -21.0 ± 2.5)"),
        ((0.1, 0.3), (0.1, 0.2), "contradicted (n = 3, +20.0 ± 2.5)", "contradicted (n = 3, +9.0 ± 2.5)"),
        ((0.1, 0.1), (0.1, 0.1), "undecided (n = 3, +0.0 ± 2.5)", "undecided (n = 3, -1.0 ± 2.5)"),
    ],
)
def test_what_is_said_follows_from_the_records(put, shallow, deep, rarer, deeper):
    for seed, more in enumerate((-0.01, 0.0, 0.01)):
        put("cifar10-164-original", shallow[0], shallow[1] + more, seed)
        folder = put("cifar10-1001-original", deep[0], deep[1] + 0.01, seed)
    one, other, stage = inside.said(folder).splitlines()
    first, last = (100 * (share + 0.1) for share in shallow)
    assert f"from {first:.1f} % before training to {last:.1f} % at its end" in one
    assert one.endswith(f": {rarer}.")
    assert f"{100 * (deep[1] + 0.11):.1f} % at the end, against {last:.1f} %: {deeper}." in other
    assert "in ResNet-164" in stage and "in ResNet-1001" in stage
    (claim,) = [each for each in CLAIMS if each.id == "truncation"]
    found = {tier: str(verdict) for tier, verdict in claim_verdicts(claim, folder).items()}
    assert found == {"paper tier": "not run", "smoke tier": deeper}


def test_lines_are_medians_over_seeds(put):
    for seed, share in enumerate((0.1, 0.2, 0.6)):
        folder = put("cifar10-164-original", 0.5, share, seed)
    put("cifar10-164-original", 0.0, 0.0, 3, status="diverged")
    found = inside.seen("ResNet-164", "original", folder)
    assert (found.n, found.diverged) == (3, 1)
    assert inside.medians(found, "truncated")[300] == pytest.approx([0.2, 0.3, 0.4])
    picture = inside.truncation(folder)
    assert picture.data["ResNet-164, after 300 iterations"] == pytest.approx([20.0, 30.0, 40.0])
    assert "ResNet-164: on average 60 percent at first and 30 at the end." in picture.alt
    table = inside.course(folder).replace("\N{NON-BREAKING HYPHEN}", "-")
    assert "| ResNet-164 | original | all | 3 | 60.0 |  |  |  | 30.0 | 51.0 |" in table
    assert "| ResNet-164 | original | 2 | 3 | 60.0 |  |  |  | 30.0 | 51.0 |" in table
    assert "| ResNet-164 | original | 3 | 3 | 70.0 |  |  |  | 40.0 | 51.0 |" in table
    lines = inside.provenance(folder, folder / "book").splitlines()
    assert [
        re.search(r"ResNet-164, original, seed (\d): \{download\}`JSON <(.*?)>`", line).groups() for line in lines
    ] == [(str(seed), f"../smoke/table-2/164-original/watched-{seed}.json") for seed in range(3)]
    assert all((folder / "smoke" / "table-2" / "164-original" / f"watched-{seed}.json").exists() for seed in range(3))


def test_the_tier_nearest_to_the_paper_is_shown_and_the_one_with_more_rows_first(put):
    put("cifar10-164-original", 0.5, 0.1)
    put("cifar10-1001-original", 0.5, 0.1)
    folder = put("cifar10-164-original", 0.5, 0.1, tier="quick", cut=Reduction(depth=20))
    assert inside.settings(folder) == [("smoke", Reduction()), ("quick", Reduction(depth=20))]
    put("cifar10-164-original", 0.5, 0.1, tier="paper")
    put("cifar10-1001-original", 0.5, 0.1, tier="paper")
    assert inside.words(folder) == "paper tier"


def test_gradients_are_those_before_and_at_the_end(put):
    folder = put("cifar10-164-pre-activation", 0.5, 0.1)
    data = inside.gradients(folder).data
    assert data["ResNet-164, pre-activation, before training"] == pytest.approx([0.5, 0.6, 0.7])
    assert data["ResNet-164, pre-activation, after 300 iterations"] == pytest.approx([0.1, 0.2, 0.3])
    assert len(data) == 3


def test_a_runs_record_is_not_taken_for_what_was_seen(put, tmp_path):
    folder = put("cifar10-164-original", 0.5, 0.1)
    (path,) = folder.rglob("watched-*.json")
    path.rename(path.with_name("seed-0.json"))
    assert inside.settings(folder) == []
    assert "units" in json.loads(path.with_name("seed-0.json").read_text())
    assert watching.seen(paper.rows(3, ["cifar10-164-original"])[0], "smoke", results=tmp_path).n == 0
