"""What a Residual Unit is compiled to for CUDA, on a machine without a GPU: few kernels, for three generations of GPUs.

The oracle of the count is the least there can be: for a BN two kernels of statistics and one that normalises, forward,
and as many backward; the addition goes with one of them, and its gradient takes one more.
"""

import importlib.util
import json
from pathlib import Path

import cuda_codegen
import pytest

from identity_mappings.pages import show

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch comes without Triton here")

BASIC = cuda_codegen.UNITS["basic, 16 channels of 32x32"]
# Calls of kernels in an iteration by region, one over those of torch 2.14; in fp16 those of the scale of the loss too
REGIONS = {"Step.batch": 3, "Sequential.forward": 8, "ResNet.head": 7, "Step.loss": 4}
REGIONS |= {"SGD.update": 2, "Step.account": 2}
SCALED = {"SGD.update": 4, "Step.account": 1, None: 3}
OUTSIDE = 12  # the weights' cast, the gradients' gathering, the rate
COUNTS = Path(__file__).parents[2] / "book" / "kernels" / "resnet-110.json"
NORMS = dict.fromkeys(cuda_codegen.UNITS, 2) | {"bottleneck, 64 channels of 32x32, with a projection": 4}


def of(lines, region):
    return [line for line in lines if line["region"] == region]


def check_all(lines):
    """Each kernel has machine code, and what a sum is does not follow from a timing."""
    graphs = [line for line in lines if line["region"]]
    assert {line["region"] for line in graphs} == REGIONS.keys() | {cuda_codegen.UNIT}
    for line in graphs:
        assert line["cubins"] and min(line["cubins"].values()) > 1000
        assert line["choices"] == 1, line


def check_unit(lines, norms):
    """One forward and one backward graph, in the least number of kernels for these BNs and one or two over."""
    lines = of(lines, cuda_codegen.UNIT)
    assert [line["backward"] for line in lines] == [False, True]
    assert [line["others"] for line in lines] == [[], []]
    assert lines[0]["triton"] + lines[1]["triton"] <= 6 * norms + 2, lines


@pytest.mark.parametrize("device, precision", [("h200", "bf16"), ("a100", "bf16"), ("t4", "fp16")])
def test_an_iteration_is_few_kernels_on_three_generations(device, precision):
    """Those of one basic unit, of the rest that is compiled, and of what is not."""
    lines = cuda_codegen.generated(device, precision, BASIC)
    check_all(lines)
    check_unit(lines, norms=2)
    for region, most in REGIONS.items():
        calls = sum(line["runs"] * (line["triton"] + len(line["others"])) for line in of(lines, region))
        assert calls <= most + (precision == "fp16") * SCALED.get(region, 0), of(lines, region)
    (rest,) = of(lines, None)
    assert sum(rest["outside"].values()) <= OUTSIDE + (precision == "fp16") * SCALED[None], rest


@pytest.fixture(scope="module")
def lines_of_units():
    """{unit: the lines of its net}, generated for an H200 in bf16."""
    lines = cuda_codegen.generated("h200", "bf16", *cuda_codegen.UNITS.values())
    return {name: [line for line in lines if line["net"] == net] for name, net in cuda_codegen.UNITS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", cuda_codegen.UNITS)
def test_other_units_are_few_kernels(lines_of_units, name):
    check_unit(lines_of_units[name], NORMS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["basic, 32 channels of 16x16", "basic, 64 channels of 8x8"])
def test_a_small_signals_sums_are_pooled_where_they_are_used(lines_of_units, name):
    """Two kernels fewer than a large one's, backward."""
    forward, backward = of(lines_of_units[name], cuda_codegen.UNIT)
    assert forward["triton"] <= 6 and backward["triton"] <= 5


def test_the_log_shows_what_was_counted_and_what_the_model_has_for_it(tmp_path):
    counted = {"triton": 600, "convolutions": 300, "others": 100}  # four kernels of cuDNN for three: 1,100 in all
    about = {"network": "ResNet-8", "device": "h200", "precision": "bf16", "torch": "2"}
    made = about | {"compiled": {"all": counted}, "units": {"a unit": [6, 7]}}
    (tmp_path / "resnet-8.json").write_text(json.dumps(made))
    shown = show.kernels(tmp_path).data
    assert "ResNet-8 in bf16, generated for H200, torch 2" in shown
    assert "| 600 | 300 | 100 | 1,100 | 2.9 to 3.7 | 183 to 239 s | 70 to 99 s |" in shown
    assert "| a unit | 6 | 7 |" in show.units(tmp_path).data


def test_an_iteration_of_resnet_110_is_below_1100_kernels():
    """By the counts that the trainer's log shows, with what it assumes of cuDNN; and fewer than with units alone."""
    compiled = json.loads(COUNTS.read_text())["compiled"]
    kernels = {way: show.launches(calls) for way, calls in compiled.items()}
    assert 700 < kernels["all"] < min(1100, kernels["units"])
    assert compiled["all"]["convolutions"] == compiled["units"]["convolutions"] == 3 * 109 - 1
