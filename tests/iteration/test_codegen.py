"""What a Residual Unit is compiled to for CUDA, on a machine without a GPU: few kernels, for three generations of GPUs.

The oracle of the count is the least there can be: for a BN two kernels of statistics and one that normalises, forward,
and as many backward; the addition goes with one of them, and its gradient takes one more.
"""

import importlib.util

import cuda_codegen
import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch comes without Triton here")

BASIC = {"depth": 4, "widths": [16]}
NETS = {
    "basic, 32 channels": ({"depth": 4, "widths": [32]}, 2),
    "basic, pre-activation": (BASIC | {"order": "full pre-activation"}, 2),
    "bottleneck with a projection": ({"depth": 5, "widths": [16], "branch": "bottleneck"}, 4),
}


def check(lines, norms):
    """One forward and one backward graph, in the least number of kernels for these BNs and one or two over."""
    assert [line["backward"] for line in lines] == [False, True]
    for line in lines:
        assert line["cubins"] and min(line["cubins"].values()) > 1000
        assert line["choices"] == 1  # what a sum is does not follow from a timing
        assert line["others"] == []
    assert lines[0]["triton"] + lines[1]["triton"] <= 6 * norms + 2, lines


@pytest.mark.parametrize("device, precision", [("h200", "bf16"), ("a100", "bf16"), ("t4", "fp16")])
def test_a_basic_unit_is_thirteen_kernels_on_three_generations(device, precision):
    check(cuda_codegen.generated(device, precision, BASIC), norms=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_other_units_are_few_kernels(name):
    net, norms = NETS[name]
    check(cuda_codegen.generated("h200", "bf16", net), norms)
