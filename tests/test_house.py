"""The house: floors that import downward, folders that one glance takes in, a README that shows them as they are."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from torch import nn

from identity_mappings import cifar_resnet, shortcut
from identity_mappings.nets import shortcuts

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "pkg" / "identity_mappings"
FLOORS = sorted(path.parent for path in LIBRARY.glob("*/__init__.py"))


def test_floors_import_downward_and_only_pages_draw(monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True, no_logo=True) == 0, capsys.readouterr().out


@pytest.mark.parametrize("floor", FLOORS, ids=lambda floor: floor.name)
def test_a_floor_says_what_lives_there_and_has_a_folder_of_tests(floor):
    assert (floor / "__init__.py").read_text().startswith('"""')
    assert len(list(floor.glob("[!_]*.py"))) <= 10
    assert list((ROOT / "tests" / floor.name).glob("test_*.py"))


def listed():
    """The paths that README's tree names, below the repository."""
    tree = re.search(r"## The tree\n.*?```\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    folders = {}
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        names = re.match(r"\S+( \S+)*", line.strip())[0].split(" ")
        folder = next((folders[i] for i in sorted(folders, reverse=True) if i < indent), ROOT)
        for path in (folder / name for name in names):
            yield path
        folders = {i: each for i, each in folders.items() if i < indent} | {indent: path}


def test_the_readmes_tree_is_the_one_on_disk():
    paths = list(listed())
    assert [path for path in paths if not path.exists()] == []
    assert len(set(paths)) == len(paths)
    modules = {path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py"}
    assert modules - set(paths) == set()
    assert {*FLOORS} <= set(paths)


def test_what_the_readme_and_the_page_on_commands_import_is_there():
    pages = [(ROOT / page).read_text() for page in ("README.md", "book/commands.md")]
    lines = re.findall(r"^from identity_mappings.*$", "\n".join(pages), re.M)
    assert lines
    scope = {}
    exec("\n".join(lines), scope)
    assert callable(scope["weights"].load) and callable(scope["weights"].save) and callable(scope["foreign"].load)


def test_where_a_change_goes_is_there():
    paths = set(re.findall(r"`([\w/]+/(?:\w+\.py)?)`", (ROOT / "CONTRIBUTING.md").read_text()))
    assert len(paths) > 20
    assert [path for path in paths if not ((ROOT / path).exists() or (LIBRARY / path).exists())] == []


def test_the_shortcut_of_the_example_trains_as_it_is_said(monkeypatch):
    """CONTRIBUTING.md's class and its line of KINDS, and nothing else: the formula, and a scalar that learns."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    scope = {"nn": nn, "torch": torch}
    exec(re.search(r"```python\n(.*?)```", text, re.S)[1], scope)
    line = re.search(r'`("learned scalar": .*?)`', text)[1]
    monkeypatch.setattr(shortcuts, "KINDS", shortcuts.KINDS | eval(f"{{{line}}}", scope))
    network = cifar_resnet(8, shortcut=shortcut("learned scalar", start=0.5), widths=(2, 3, 4))
    meets = [unit.shortcut for unit in network.units]
    x, f = torch.randn(2, 5, 2, 4, 4)
    assert all(torch.equal(meet(x, f), 0.5 * x + f) for meet in meets)
    network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(meet.s.grad != 0 for meet in meets)


def needed(*names):
    """The installed distributions that those of the names need, themselves among them, without any extras."""
    found, waiting = {}, list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # torch names the parts of CUDA that it was built for
            continue
        requirements = map(Requirement, found[name].requires or ())
        waiting += [each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})]
    return found.values()


ALONE = """
import pkgutil, sys, importlib
sys.path[:0] = sys.argv[1:]
import identity_mappings
modules = [each.name for each in pkgutil.walk_packages(identity_mappings.__path__, "identity_mappings.")]
for name in modules:
    importlib.import_module(name)
assert identity_mappings.__file__.startswith(sys.argv[1]), identity_mappings.__file__
for absent in ("rich", "sklearn", "matplotlib", "plotly", "IPython", "safetensors", "invoke"):
    assert importlib.util.find_spec(absent) is None, absent
print(len(modules))
"""


def test_the_library_imports_with_torch_torchvision_and_numpy_alone(tmp_path):
    """In an interpreter whose only packages are these three and what they need, linked into a folder."""
    for distribution in needed("torch", "torchvision", "numpy"):
        tops = {file.parts[0] for file in distribution.files if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            source, link = Path(distribution.locate_file(top)), tmp_path / top
            if not link.exists():
                link.symlink_to(source)
    python = [sys.executable, "-I", "-S", "-c", ALONE, str(ROOT / "pkg"), str(tmp_path)]
    done = subprocess.run(python, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(list(LIBRARY.rglob("*.py"))) - 1  # every module but the package itself
