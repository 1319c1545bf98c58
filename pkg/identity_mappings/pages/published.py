"""Who publishes the site, and of which commit: what links, Colab's buttons and the footer are made from.

Nothing here is a literal: an address that this project names and does not own is one that somebody else may take. Where
no repository is known, there are no such links.
"""

import os
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlparse

from .notebooks import ROOT

BRANCH = "notebooks"  # to which the publishing workflow writes the notebooks that Colab opens


def repository():
    """The address of the repository that publishes: its workflow's own variable, else git's origin, else ""."""
    if name := os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    return web_address(_git("remote", "get-url", "origin"))


def web_address(remote):
    """Where a browser finds a repository that git reaches at `remote`; "" for a folder, or what has no such place."""
    remote = re.sub(r"^(?:ssh://)?git@([^:/]+)[:/]", r"https://\1/", remote.strip()).removesuffix(".git")
    place = urlparse(remote)
    if place.scheme != "https" or not place.hostname or place.path.count("/") < 2:
        return ""
    return f"https://{place.hostname}{place.path}"  # without a name or a token that stands before the host


def commit():
    """The commit that is built: $IDENTITY_MAPPINGS_COMMIT, else the checkout's; "" where there is none."""
    return os.environ.get("IDENTITY_MAPPINGS_COMMIT") or _git("rev-parse", "--verify", "--quiet", "HEAD")


def date():
    """The day of the commit that is built, as ISO 8601; "" where no commit is known."""
    return _git("show", "-s", "--format=%cs", commit()) if commit() else ""


@lru_cache
def _git(*words):
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return ""  # git would answer for any project around this folder
    return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()


def commit_link(revision, address=None):
    """A record's commit as Markdown: its first digits, a link where the repository's address is known."""
    if not revision:
        return "unknown"
    digits, plus, changes = revision.partition("+")
    address = repository() if address is None else address
    shown = f"[{digits[:10]}]({address}/commit/{digits})" if address else digits[:10]
    return f"{shown} {plus}{changes}".strip()


def download(run, results=None, folder=None):
    """A run's record as Markdown: a link to download it, from the page that lies in `folder`, by default the book's."""
    path = os.path.relpath(run.record_path(results), folder or ROOT / "book")
    return f"{{download}}`JSON <{Path(path).as_posix()}>`"


def colab(name, address=None):
    """Where Colab opens a published notebook; "" where it cannot: it reads repositories on GitHub."""
    place = urlparse(repository() if address is None else address)
    if place.hostname != "github.com":
        return ""
    return f"https://colab.research.google.com/github{place.path}/blob/{BRANCH}/{name}"
