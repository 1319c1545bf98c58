"""What there is of a row, tier by tier, and which of it stands for the row: the pages of tables and rows ask here."""

from dataclasses import dataclass

from ...experiments import paper, studies
from ...experiments.protocols import IMAGES, TIERS, Reduction, recipe
from ...results import records, tables, verdicts
from ...results.statistics import Summary, difference, gaps, summaries


@dataclass(frozen=True)
class Evidence:
    """The runs of a row in one tier, at one reduction. summaries: one a recipe, those without runs left out."""

    row: object
    tier: str
    reduction: Reduction
    summaries: tuple
    results: object = None

    @property
    def n(self):
        """Runs of the recipe that has the fewest."""
        return min(summary.n for summary in self.summaries)

    @property
    def images(self):
        """On what was trained, in words."""
        return IMAGES[recipe(self.row.recipe(self.summaries[0].variant), self.tier, self.reduction).dataset]

    @property
    def scale(self):
        """The tier as a heading: "pocket tier", "quick tier at 20 layers"."""
        return f"{self.tier} tier" + (f" at {self.reduction}" if self.reduction.name else "")

    @property
    def written(self):
        """When its newest record was written, as ISO 8601."""
        return max(record["written"] for summary in self.summaries for record in summary.records)

    def baseline(self):
        """The Summary of the row's baseline in the same tier; None for a row without baseline, or one not run."""
        if self.row.baseline is None:
            return None
        (row,) = paper.rows(self.row.table, [self.row.baseline])
        (found,) = summaries(row, self.tier, self.reduction, self.results)
        return found if found.n else None

    def differences(self):
        """[(the Summary, its Verdict, mean difference to the baseline or None, half of its 95 % interval or None)].

        Differences are points of test error, over runs of the same seed; of one pair there is no interval.
        """
        baseline = self.baseline()
        claim = verdicts.claimed(self.row)
        said = verdicts.verdicts(claim, self.tier, self.reduction, self.results) if claim and baseline else []
        by_variant = dict(zip(self.row.networks, said, strict=bool(said)))
        return [
            (summary, by_variant.get(summary.variant), *(_difference(summary, baseline) if baseline else (None, None)))
            for summary in self.summaries
        ]

    def lines(self):
        """What tables say of it, recipe by recipe: `tables.Line`s, those without runs left out."""
        found = tables.row_lines(self.row, self.tier, self.reduction, self.results)
        return [line for line in found if line.error != "not run"]


def _difference(ours: Summary, baseline: Summary):
    """(mean, half) of the differences by seed; (difference, None) of one pair; (None, None) where there is none."""
    if found := difference(ours, baseline):
        return found
    found = gaps(ours, baseline)
    return (found[0], None) if len(found) == 1 else (None, None)


def of_row(row, results=None):
    """The `Evidence` of a row in every tier and reduction that it has runs in, the best first: see `best`."""
    found = []
    for tier, reduction in records.settings([row], results):
        ran = tuple(each for each in summaries(row, tier, reduction, results) if each.n)
        found.append(Evidence(row, tier, reduction, ran, results))
    return sorted(found, key=_rank, reverse=True)


def _rank(evidence):
    cut = evidence.reduction
    whole = cut.depth is None and cut.width is None  # else it is another network
    return whole, min(evidence.n, tables.ENOUGH), cut == Reduction(), [*TIERS].index(evidence.tier)


def of_table(row, results=None):
    """The same for a table's page: without the runs at a study's scale, which stand on the study's page."""
    of_studies = [(scale.tier, scale.reduction) for scale in studies.SCALES.values() if scale.reduction.name]
    return [each for each in of_row(row, results) if (each.tier, each.reduction) not in of_studies]


def best(row, results=None):
    """The `Evidence` that stands for a row in its table; None where the row's own network has not been run.

    That of `tables.nearest` where the row is compared with a baseline; else of the tier nearest to the paper's among
    those with enough runs.
    """
    found = [each for each in of_table(row, results) if _rank(each)[0]]
    nearest = tables.nearest(row, results) if row.baseline else None
    at_nearest = [each for each in found if (each.tier, each.reduction) == nearest]
    return next(iter(at_nearest or found), None)
