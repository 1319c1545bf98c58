"""The paper's statements on how it was done, each beside the line of code and the test that hold it.

A code place is a file of the package and a piece of one of its lines: the line itself is read from the source when the
page is built, and a piece that stands nowhere, or twice, is an error. A test is a file and a function of `tests/`.
"""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TESTS = ROOT / "pkg" / "identity_mappings", ROOT / "tests"


class Statement(NamedTuple):
    """What the paper says, in our words; (file, piece of a line); (file, test); page and section with more on it."""

    where: str
    words: str
    code: tuple
    test: tuple
    more: str = ""


def trap(number, name):
    return f"[trap {number}, {name}](traps.md)"


LEFT_OPEN = "[left open](choices.md)"

CIFAR = (
    Statement(
        "appendix",
        "The learning rate starts from 0.1.",
        ("experiments/protocols.py", "learning_rate: float = 0.1"),
        ("experiments/test_protocols.py", "test_the_protocol_is_the_appendixs"),
    ),
    Statement(
        "appendix",
        "It is divided by 10 at 32k and 48k iterations.",
        ("experiments/protocols.py", "drops: tuple = (32_000, 48_000)"),
        ("experiments/test_protocols.py", "test_rate"),
        trap(17, "iterations"),
    ),
    Statement(
        "appendix",
        "The first 400 iterations warm up at 0.01, and the rate goes back to 0.1 after them.",
        ("experiments/protocols.py", "warmup: int = 400"),
        ("experiments/test_protocols.py", "test_rate"),
        trap(8, "warm-up"),
    ),
    Statement(
        "appendix",
        "The mini-batch is 128 images.",
        ("experiments/protocols.py", "batch: int = 128"),
        ("experiments/test_protocols.py", "test_the_protocol_is_the_appendixs"),
    ),
    Statement(
        "appendix",
        "It lies on 2 GPUs, 64 images each.",
        ("experiments/protocols.py", "bn_group: int | None = 64"),
        ("nets/test_units.py", "test_bn_of_two_replicas"),
        f"{trap(13, 'BN sees 64')}, {LEFT_OPEN}",
    ),
    Statement(
        "appendix",
        "Weight decay is 0.0001.",
        ("experiments/protocols.py", "weight_decay: float = 1e-4"),
        ("iteration/test_sgd.py", "test_what_decays"),
        f"{trap(9, 'weight decay')}, {LEFT_OPEN}",
    ),
    Statement(
        "appendix",
        "Momentum is 0.9.",
        ("experiments/protocols.py", "momentum: float = 0.9"),
        ("iteration/test_sgd.py", "test_velocity_across_changes_of_rate"),
        f"{trap(16, 'whose momentum')}, {LEFT_OPEN}",
    ),
    Statement(
        "appendix",
        "Weights are initialised as in He et al. (2015).",
        ("nets/networks.py", "nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out)"),
        ("nets/test_networks.py", "test_initial_weights"),
        f"[initial weights](traps.md), {LEFT_OPEN}",
    ),
    Statement(
        "appendix",
        "The only augmentation is translation and flipping, as in the first paper: 4 pixels of padding, a random crop.",
        ("data/batches.py", "random.randint(0, span, n), random.randint(0, span, n)"),
        ("data/test_batches.py", "test_augmented_is_pad_crop_flip"),
        f"{trap(10, 'padding')}, {LEFT_OPEN}",
    ),
    Statement(
        "3.1",
        "A result is the median of 5 runs; ours are at the last iteration.",
        ("results/statistics.py", "return statistics.median(self.errors) if self.errors else None"),
        ("results/test_statistics.py", "test_medians_and_how_they_are_printed"),
        trap(11, "the last iteration"),
    ),
    Statement(
        "Table 1",
        "A test error above 20 % is a failure.",
        ("experiments/rows.py", "FAIL_ABOVE = 20.0"),
        ("results/test_statistics.py", "test_only_the_paper_tier_of_table_1_calls_an_error_above_20_percent_a_failure"),
    ),
    Statement(
        "Table 4",
        "The best ResNet-1001 is trained with mini-batches of 64.",
        ("experiments/paper.py", "protocol=replace(CIFAR, batch=64, bn_group=32)"),
        ("experiments/test_protocols.py", "test_smoke_of_the_larger_rows"),
    ),
)

UNITS = (
    Statement(
        "appendix",
        "With pre-activation, the first unit's activation comes right after conv1, before the split into two paths.",
        ("nets/units.py", "self.before = chain(order.lead if opens and not first else (), channels_in)"),
        ("nets/test_units.py", "test_the_first_unit_leaves_the_activation_to_the_stem"),
        trap(4, "the first unit"),
    ),
    Statement(
        "appendix",
        "The last unit is followed by an extra activation, right after its addition.",
        ("nets/networks.py", "self.tail = chain(units_order.lead, channels)"),
        ("nets/test_units.py", "test_the_first_unit_leaves_the_activation_to_the_stem"),
        trap(3, "the last unit"),
    ),
    Statement(
        "appendix",
        "In ResNet-164 and ResNet-1001 a unit is 1x1, 16; 3x3, 16; 1x1, 64.",
        ("nets/networks.py", "return [Conv(1, width, first), Conv(3, width, middle), Conv(1, 4 * width)]"),
        ("nets/test_oracles.py", "test_parameters_of_cifar_bottlenecks"),
        trap(1, "bottleneck widths"),
    ),
    Statement(
        "appendix",
        "Bottleneck nets use projections where the feature map shrinks and dimensions grow.",
        ("nets/networks.py", 'choices.pop("resize", "projection" if branch == "bottleneck" else "pad")'),
        ("nets/test_networks.py", "test_the_papers_choices_follow_from_the_depth"),
        f"{trap(6, 'dimensions')}, {LEFT_OPEN}",
    ),
    Statement(
        "appendix",
        "With pre-activation, these projections are with pre-activation, too.",
        ("nets/units.py", "# both paths read the activated signal (appendix)"),
        ("nets/test_units.py", "test_unit_is_the_one_written_by_hand"),
        trap(5, "what a projection reads"),
    ),
    Statement(
        "3.1",
        "ResNet-110 has 54 units of two 3x3 layers.",
        ("nets/networks.py", "units, rest = divmod(self.depth - 2, convs * stages)"),
        ("nets/test_networks.py", "test_depth_counts_the_weight_layers"),
        trap(2, "names and depths"),
    ),
    Statement(
        "4.1",
        "ResNet-1001 has 333 units, 111 on each size of the feature map.",
        ("nets/networks.py", "return (units,) * stages"),
        ("nets/test_networks.py", "test_depth_counts_the_weight_layers"),
    ),
    Statement(
        "Fig. 2",
        "BN follows the weight layers of all units: the 1x1 convolution on the shortcut, too.",
        ("nets/shortcuts.py", "return self.bn(self.conv(x)) + f"),
        ("nets/test_shortcuts.py", "test_conv_1x1_in_evaluation"),
        f"{trap(14, 'BN in a gate')}, {LEFT_OPEN}",
    ),
    Statement(
        "3.1",
        "A gate is a sigmoid of a 1x1 convolution with a bias that starts from the row's value.",
        ("nets/shortcuts.py", "return torch.sigmoid(z if self.bn is None else self.bn(z))"),
        ("nets/test_shortcuts.py", "test_a_gates_bias_starts_where_its_row_says"),
    ),
    Statement(
        "3.1",
        "Dropout, at 0.5, acts on the output of the identity shortcut and scales it by 0.5 in expectation.",
        ("nets/shortcuts.py", "return (kept if self.rescale else (1 - self.p) * kept) + f"),
        ("nets/test_shortcuts.py", "test_dropout"),
        f"{trap(12, 'the scale of dropout')}, {LEFT_OPEN}",
    ),
    Statement(
        "3.1",
        "The bias is searched from 0 to -10 in steps of -1, by cross-validation on the training set.",
        ("experiments/studies.py", "for bias in range(0, -11, -1)"),
        ("experiments/test_studies.py", "test_the_search_is_over_the_papers_range_and_keeps_its_own_runs"),
        "[the search](gate-bias.md)",
    ),
    Statement(
        "footnote 3",
        "ResNet-200 has 16 more units than ResNet-152, on the feature map of 28x28.",
        ("nets/networks.py", "IMAGENET_UNITS = {50:"),
        ("nets/test_networks.py", "test_imagenet_depth_counts_the_weight_layers"),
    ),
)

IMAGENET = (
    Statement(
        "appendix",
        "On ImageNet the augmentation is that of the first paper: the shorter side between 256 and 480, a crop of 224.",
        ("data/crops.py", "side = random.randint(protocol.shorter[0]"),
        ("data/test_imagenet.py", "test_scales_and_places_are_uniform"),
    ),
    Statement(
        "Table 5",
        "One row is trained with scale and aspect ratio augmentation.",
        ("experiments/protocols.py", "IMAGENET_ASPECT = replace("),
        ("data/test_imagenet.py", "test_areas_and_shapes_are_googlenets"),
    ),
    Statement(
        "appendix",
        "The rate starts at 0.1 without warm-up and is divided by 10 at 30 and 60 epochs.",
        ("experiments/protocols.py", "drops: tuple = (1_281_167"),
        ("experiments/test_protocols.py", "test_imagenets_protocol_is_the_appendixs"),
    ),
    Statement(
        "appendix",
        "The mini-batch is 256 on 8 GPUs, 32 each.",
        ("training/imagenet.py", "if batch % (group * processes):"),
        ("training/test_distributed.py", "test_whole_in_parts_and_by_two_processes_the_same_weights"),
    ),
    Statement(
        "section 5",
        "A single crop is tested: 224 of a shorter side of 256, or 320 of 320.",
        ("data/crops.py", "return pixels[top : top + crop"),
        ("data/test_imagenet.py", "test_the_central_crop_is_torchvisions"),
    ),
)


def line(code):
    """(number, text) of the one line of the package that holds a piece. Raises ValueError where none or several do."""
    file, piece = code
    lines = (PACKAGE / file).read_text(encoding="utf-8").splitlines()
    found = [(number, text.strip()) for number, text in enumerate(lines, 1) if piece in text]
    if len(found) != 1:
        raise ValueError(f"one line of {file} must hold {piece!r}; found {len(found)}")
    return found[0]


def test_of(test):
    """(file, number) of a test's definition. Raises ValueError where there is none."""
    file, name = test
    lines = (TESTS / file).read_text(encoding="utf-8").splitlines()
    found = [number for number, text in enumerate(lines, 1) if text.startswith(f"def {name}(")]
    if len(found) != 1:
        raise ValueError(f"{file} must hold one {name}; found {len(found)}")
    return file, found[0]


def markdown(statements):
    """A Markdown table of statements, the code read from the source."""
    lines = [
        "| where | what the paper says | the line that does it | the test that holds it | more |",
        "|---|---|---|---|---|",
    ]
    for each in statements:
        number, text = line(each.code)
        file, at = test_of(each.test)
        code = f"`{text.partition('  #')[0].replace('|', chr(92) + '|')}` {each.code[0]}, line {number}"
        lines.append(f"| {each.where} | {each.words} | {code} | `{each.test[1]}` {file}, line {at} | {each.more} |")
    return "\n".join(lines)
