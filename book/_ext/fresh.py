"""Which pages are read, and so executed, again: those of which anything that they are made from has changed.

Sphinx looks at a page's own file. What its cells show is made from the library and the records, which Sphinx does not
know. Here each page has a stamp, a hash of all these files and of its packages' versions, kept with what Sphinx keeps
of the page; a page whose stamp is another is read again. Times of files are not asked: a record copied from another
machine may be older than the page that must change.
"""

import hashlib
import os
import sys
import tomllib
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(os.environ.get("IDENTITY_MAPPINGS_RESULTS") or ROOT / "results").expanduser()
BOOK = ROOT / "book"

# Every page's cells may use any of these ...
LIBRARY = ((ROOT / "pkg", "**/*.py"), (BOOK, "*.py"), (BOOK, "*.csv"))
# ... and show these: records, benches and the like beside the pages. What begins with an underscore in the book's
# folder is made by builds, or for writing pages.
RECORDS = ((RESULTS, "**/*.json"), (BOOK, "*.json"), (BOOK, "[!_]*/**/*.json"))
# Pages that read something else; tests/book/test_fresh.py holds them to reading no record.
READS = dict.fromkeys(("analysis", "units", "argument", "since", "glossary", "run", "commands", "traps"), ())
READS["reliability"] = ((BOOK, "chaos/*.json"),)
READS["details"] = ((ROOT / "tests", "**/*.py"),)
# What all pages are written with: a change is no reason to execute one, but to write each again.
WRITING = ((BOOK / "_static", "**/*"), (BOOK / "_ext", "*.py"), (BOOK, "*.bib"))


def setup(app):
    app.connect("env-get-outdated", outdated)
    app.connect("env-updated", to_write_again)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def outdated(app, env, added, changed, removed):
    """The pages whose stamp is not the one that they were last read with; and the files of removed pages go."""
    known = getattr(env, "page_stamps", {})
    env.page_stamps = {name: stamp(name, Path(env.doc2path(name))) for name in env.found_docs}
    for name in removed:
        for path in (Path(app.outdir, f"{name}.html"), Path(app.outdir, "_sources", f"{name}.ipynb")):
            path.unlink(missing_ok=True)
    return [name for name, now in env.page_stamps.items() if known.get(name) != now]


def to_write_again(app, env):
    """All pages where what stands on each of them has changed: the list of pages, styles, these extensions."""
    titles = sorted((name, title.astext()) for name, title in env.titles.items())
    now = hashed([repr((titles, sorted(env.toctree_includes.items()))).encode(), *contents(WRITING)])
    if getattr(env, "written_with", None) == now:
        return []
    env.written_with = now
    return sorted(env.found_docs)


def stamp(name, source):
    """The hash of all that a page is made from."""
    if name.startswith("rows/"):  # written from the records before the build; nothing on it is executed
        return hashed([source.read_bytes()])
    patterns = LIBRARY + READS.get(name, RECORDS)
    return hashed([source.read_bytes(), packages(), *contents(patterns)])


def contents(patterns):
    """Name and content of each file that is found, in order."""
    for folder, pattern in patterns:
        for path in sorted(path for path in folder.glob(pattern) if path.is_file()):
            yield str(path.relative_to(folder)).encode()
            yield path.read_bytes()


@lru_cache
def packages():
    """Python's version and those of the packages that the book asks for, and that these ask for in turn.

    What else is installed, for tests say, changes no page.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, found = [*project["dependencies"], *project["optional-dependencies"]["book"]], {}
    while waiting:
        asked = Requirement(waiting.pop())
        if asked.name in found or (asked.marker and not asked.marker.evaluate({"extra": ""})):
            continue
        try:
            installed = metadata.distribution(asked.name)
        except metadata.PackageNotFoundError:
            continue  # a page that needs it says so
        found[asked.name] = installed.version
        waiting += installed.requires or ()
    return repr((sys.version, sorted(found.items()))).encode()


def hashed(parts):
    """One hash of parts that cannot run into each other."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
