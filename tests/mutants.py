"""Mutation testing with Cosmic Ray's operators: change one thing at a time in a file, and see that a fast test fails.

python tests/mutants.py                         all six files (`pip install cosmic-ray` beside this project's packages)
python tests/mutants.py nets/orders nets/norm   those alone

Every mutant is tested in a process of its own on a copy of the library. Survivors are printed as line and change;
tests/SURVIVORS.md lists the last run's and says of each why it may live. Operators that write a bitwise operator, a
shift or a power in place of arithmetic are left out: their mutants die of a TypeError or look like the others'.
"""

import difflib
import multiprocessing
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from spring_traps import HERE, LIBRARY, copied

PRELOADED = ["torch", "torchvision", "pytest", "hypothesis", "sklearn.datasets"]
SECONDS = 120  # a mutant that runs longer hangs, and counts as killed
LEFT_OUT = re.compile(r"ReplaceBinaryOperator_\w+_(BitAnd|BitOr|BitXor|LShift|RShift|Pow)$")

FROZEN = "experiments/test_protocols.py::test_specifications_cannot_be_changed"
FROM_FILE = "weights/test_weights.py::test_a_network_comes_back_from_its_file"
RELEASED = "weights/test_foreign.py::test_torch7_logits_are_those_of_the_tree[the released 200 layers]"

# file -> the tests that must notice, the quickest first, and the traps among them
TESTS = {
    "nets/orders": ((FROZEN, "nets/test_orders.py", "nets/test_units.py"), ()),
    "nets/shortcuts": (
        (FROZEN, "nets/test_shortcuts.py", "nets/test_units.py", "nets/test_networks.py::test_names"),
        ("12", "14"),
    ),
    "nets/norm": (
        (
            "nets/test_units.py",
            "iteration/test_step.py::test_deferred_statistics_are_those_of_batch_norm",
            "iteration/test_step.py::test_statistics_kept_aside_are_no_part_of_the_weights",
            "iteration/test_step.py::test_a_repeated_pass_counts_once",
            "iteration/test_step.py::test_a_network_trained_by_others_keeps_its_own_statistics",
        ),
        ("13",),
    ),
    "nets/units": (
        ("nets/test_units.py", "nets/test_networks.py", "nets/test_oracles.py", FROM_FILE, RELEASED),
        ("04", "05", "06"),
    ),
    "nets/networks": (
        (
            FROZEN,
            "nets/test_networks.py",
            "weights/test_weights.py::test_a_spec_comes_back_from_json",
            "weights/test_weights.py::test_what_is_no_spec",
            "weights/test_weights.py::test_the_hash_of_an_older_spec_stays",
            "iteration/test_step.py::test_recomputation_changes_no_bit",
            "iteration/test_step.py::test_recomputation_keeps_less",
            "nets/test_shortcuts.py",
            "nets/test_oracles.py",
            FROM_FILE,
            RELEASED,
        ),
        ("01", "03", "04", "05", "06", "07"),
    ),
    "experiments/protocols": (
        ("experiments/test_protocols.py", "experiments/test_studies.py"),
        ("08", "09", "10", "13", "16"),
    ),
}
SLOW = ("torchvisions", "fully", "1202-choices", "1001-111", "110-18", "110-36")


def mutants(source):
    """(operator's name, mutated source) of every mutant of a file's text."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments() or LEFT_OUT.search(name):
            continue
        occurrence = 0
        while (mutated := mutate_code(source, operator(), occurrence)) is not None:
            yield name.partition("/")[2], mutated
            occurrence += 1


def attempt(folder, module):
    """In a fresh process: exit with pytest's status on the copy in `folder`."""
    import pytest

    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    os.environ["IDENTITY_MAPPINGS_RESULTS"] = str(Path(folder) / "results")
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    files, traps = TESTS[module]
    only = " or ".join(["not test_traps", *(f"test_{number}" for number in traps)])
    chosen = [*(str(HERE / file) for file in files), str(HERE / "test_traps.py")]
    quick = " and ".join([f"({only})", *(f"not {word}" for word in SLOW)])
    os._exit(int(pytest.main([*chosen, "-k", quick, "-x", "-p", "no:cacheprovider"])))


def survives(context, module, mutated):
    """Whether the file's tests pass with its text replaced."""
    with tempfile.TemporaryDirectory() as folder:
        copied(Path(folder))
        (Path(folder) / LIBRARY.name / f"{module}.py").write_text(mutated)
        process = context.Process(target=attempt, args=(folder, module))
        process.start()
        process.join(SECONDS)
        process.kill()
        process.join()
        return process.exitcode == 0


def change(before, after):
    """The changed line's number and the change, as "12: old -> new"."""
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "-+"]
    number = next(i for i, (a, b) in enumerate(zip(before.splitlines(), after.splitlines(), strict=False), 1) if a != b)
    return f"{number}: " + " -> ".join(line[2:].strip() for line in lines)


def main(chosen):
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    for module in chosen or TESTS:
        start, source = time.monotonic(), (LIBRARY / f"{module}.py").read_text()
        if not survives(context, module, source):
            print(f"{module}: the tests do not pass on the library as it is")
            return 1
        made = list(mutants(source))
        with ThreadPoolExecutor(2) as pool:
            alive = list(pool.map(lambda m: survives(context, module, m[1]), made))  # noqa: B023
        minutes = (time.monotonic() - start) / 60
        print(f"{module}: {len(made)} mutants, {sum(alive)} survived, {minutes:.1f} min")
        for (operator, mutated), lives in zip(made, alive, strict=True):
            if lives:
                print(f"  {operator} {change(source, mutated)}")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
