"""A page for every row of the tables: all its runs, tier by tier, with what it takes to make each again.

The pages are Markdown files in the book's `rows` folder, written from the records before each build. Nothing on them
is executed, so that a page costs no kernel, and one whose text is as it was is not read again.
"""

import hashlib
from pathlib import Path

from ... import grids
from ...experiments import paper
from ...experiments.runs import Run, place, results_dir
from .. import figures, notebooks, pictures, plots, published, show
from . import evidence, tables

BOOK = notebooks.ROOT / "book"
FOLDER = BOOK / "rows"


def write_all(folder=None, records=None):
    """Write the page of every row, if a record or the library has changed; pages of no row go."""
    folder = folder or FOLDER
    now, stamp = _inputs(records), folder / ".inputs"
    if stamp.exists() and stamp.read_text() == now:
        return
    kept = set()
    for row in (row for table in paper.TABLES for row in paper.rows(table)):
        path = folder.parent / tables.address(row)
        kept.add(path)
        text = page(row, path.parent, records)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for path in folder.rglob("*.md"):
        if path not in kept:
            path.unlink()
    stamp.write_text(now)


def _inputs(records):
    """A hash of what the pages are made from: library, records, and who publishes them."""
    files = [*sorted(Path(__file__).parents[2].rglob("*.py")), *sorted((records or results_dir()).rglob("*.json"))]
    parts = [str(path).encode() + path.read_bytes() for path in files]
    return hashlib.sha256(b"".join([published.repository().encode(), *parts])).hexdigest()


def page(row, folder, records=None):
    """The text of a row's page that lies in `folder`."""
    found = sorted(evidence.of_row(row, records), key=lambda each: each.written, reverse=True)
    parts = [
        "---\norphan: true\n---",
        f"# Table {row.table}: {row.name()}",
        f"[Table {row.table}](../../table-{row.table}.md) · {row.figure}",
        _stated(row),
    ]
    for each in found:
        parts += _tier(row, each, folder, records)
    if not found:
        parts += [
            "## To run it",
            "Nothing has been run of this row yet.",
            _shell(_command(row, None, 1, None)),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _stated(row):
    """What the paper prints of the row and says of it."""
    said = f"The paper prints {tables.published(row)}"
    if row.baseline is None:
        return f"{said}. Other rows are compared with this one." if _is_baseline(row) else f"{said}."
    (baseline,) = paper.rows(row.table, [row.baseline])
    link = f"[{baseline.name()}](../../{tables.address(baseline)})"
    than = {"worse": "a worse result than", "better": "a better result than", "near": "about the result of"}
    if row.claim not in than:
        return f"{said}, where its baseline, {link}, has {tables.published(baseline)}."
    return f"{said}: {than[row.claim]} its baseline, {link}, which has {tables.published(baseline)}."


def _is_baseline(row):
    return any(other.baseline == row.id for other in paper.rows(row.table))


def _tier(row, each, folder, records):
    """The section of one tier."""
    *settings, line = each.lines()
    verdict = show.verdict_words(row, line)
    baseline = each.baseline()
    yield f"## {each.scale[0].upper()}{each.scale[1:]}"
    yield (
        f"Trained on {each.images}. Test error in percent: **{line.error}**, n = {line.n}."
        + (f" Its baseline, in the same tier: {baseline}." if baseline else "")
        + (f" Verdict: **{verdict}**." if verdict else "")
    )
    if each.tier != "paper":
        yield "These numbers are comparable with each other, not with the paper's."
    yield _settings(each, settings)
    yield _curves(row, each, baseline)
    yield _runs(each, folder, records)
    yield "To make these runs again, exactly:"
    yield _shell("\n".join(_commands(row, each)))
    yield _notebook(row, each)
    yield f":::{{dropdown}} The recipe\n{show.recipe(_runs_of(row, each)).data}\n:::"


def _settings(each, lines):
    """What came out at each of the settings that a row sums up; nothing for a row of one, which has no such lines."""
    if not lines:
        return ""
    cells = [
        (tables.variant_name(summary), line.error, line.n, show.verdict_words(each.row, line))
        for summary, line in zip(each.summaries, lines, strict=True)
    ]
    return grids.captioned("Each setting on its own.", ("setting", "test error, %", "n", "verdict"), cells)


def _runs_of(row, each):
    return [Run(*place(row, summary.variant), each.tier, 0, each.reduction) for summary in each.summaries]


def _curves(row, each, baseline):
    """The training curves as a picture in the page's own colours."""
    shown = [*([baseline] if baseline else []), *each.summaries]
    if missing := figures.sparse(shown):
        return f"The training curves are not drawn, for the records have too few points: {missing}."
    names = [summary.row.plain_name(summary.variant) for summary in shown]
    drawing = pictures.Picture(
        plots.curves(shown),
        f"Training loss and test error by iteration of {' and '.join(names)}, {each.scale}.",
        caption="Training loss (dashed, left axis) and test error (solid, right axis) of each run and its baseline's.",
    )
    return f"```{{raw}} html\n{drawing.html()}\n```"


def _runs(each, folder, records):
    """A line a run: what came out, on what, of which commit, and the record itself."""
    several = len(each.row.networks) > 1
    lines = []
    for summary in each.summaries:
        for record in summary.records:
            run = Run(*place(each.row, summary.variant), each.tier, record["seed"], each.reduction)
            ended = record["status"] if record["diverged_at"] is None else f"diverged at {record['diverged_at']:,}"
            error = "none" if record["test_error"] is None else f"{record['test_error']:.2f}"
            lines.append(
                (
                    *([tables.variant_name(summary)] if several else []),
                    record["seed"],
                    error if record["status"] == "finished" else ended,
                    f"{record['device']}, {_threads(record)}{record['precision']}",
                    f"{record['device_seconds']:,.0f} of {record['wall_seconds']:,.0f}",
                    f"{published.commit_link(record['commit'])}, torch {record['versions']['torch']}",
                    published.download(run, records, folder),
                )
            )
    header = ("seed", "test error, %", "device, precision", "seconds, busy of all", "commit, versions", "record")
    header = ("setting", *header) if several else header
    caption = "Every run, with the record that all of this page is made from."
    return grids.captioned(caption, header, lines)


def _threads(record):
    """How many threads a run had on a CPU: sums of another number of them may differ in their last bits."""
    threads = record.get("threads")
    return f"{threads} thread{'s' * (threads != 1)}, " if threads else ""


def _commands(row, each):
    """The commands that make the runs again: one for each precision and kind of device."""
    seeds = {}
    for summary in each.summaries:
        for record in summary.records:
            kind = "cuda" if record.get("device_type", "cpu") == "cuda" or "NVIDIA" in record["device"] else "cpu"
            seeds.setdefault((record["precision"], kind), set()).add(record["seed"])
    for (precision, device), found in seeds.items():
        yield _command(row, each, max(found) + 1, precision, device)


def _command(row, each, seeds, precision, device=None):
    cut = each.reduction if each else None
    words = [f"invoke reproduce --table {row.table} --row {row.id}"]
    words += [f"--tier {each.tier}"] if each else []
    words += [f"--{key} {value}" for key, value in vars(cut).items() if value is not None] if cut else []
    words += [f"--seeds {seeds}"]
    words += [f"--precision {precision}"] if precision else []
    words += [f"--device {device}"] if device else []
    return " ".join(words)


def _shell(commands):
    return f"```sh\n{commands}\n```"


def _notebook(row, each):
    """Links to the row's notebook with this tier filled in: to download, and where it is published, in Colab."""
    name = notebooks.filled_name(row, each.tier, each.reduction)
    link = f'<a href="../../notebooks/{name}" download>The notebook of this row and tier</a>'
    if address := published.colab(name):
        link += f' · <a href="{address}">open it in Colab</a>'
    return f"```{{raw}} html\n<p>{link}</p>\n```"
