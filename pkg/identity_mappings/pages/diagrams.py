"""Figs. 1, 2, 4 and 5 of the paper, drawn from the data that builds the modules.

What a unit's drawing shows is a `Sketch`: words on the residual branch, on the shortcut, and after the addition. An
order gives its own (`orders.ORDERS`), a shortcut's kind the ones below, and the drawing functions know no unit by name.
"""

from dataclasses import dataclass, replace

from ..nets.orders import CHAIN, ORDERS, Order, order
from ..nets.shortcuts import Shortcut, shortcut
from .pictures import COLOURS, INK, PAPER, Picture, figure

GREY = "#8c8c8c"  # the paper's grey arrow: the easiest path
WORDS = {"conv": "weight", "bn": "BN", "relu": "ReLU"}  # as the paper's figures write the chain's words


@dataclass(frozen=True)
class Sketch:
    """One unit, as words.

    residual, after: the chain's words before and after the addition. path: operations on the shortcut, in order.
    gain: operations on the branch just before the addition. gate: the words that make g(x) from x, where there is a
    gate. connected: whether there is a shortcut at all.
    """

    title: str
    residual: tuple
    after: tuple
    path: tuple = ()
    gain: tuple = ()
    gate: tuple = ()
    connected: bool = True


def _scaled(options):
    a, b = options["a"], options["b"]
    return {
        "path": () if a in (0, 1) else (f"× {a:g}",),
        "gain": () if b == 1 else (f"× {b:g}",),
        "connected": a != 0,
    }


def _gate(options):
    return ("1x1 conv", "BN", "sigmoid") if options["bn"] else ("1x1 conv", "sigmoid")


# what each kind of shortcut puts where; a kind that has no drawing cannot be drawn by mistake as another
ON_SHORTCUT = {
    "identity": lambda options: {},
    "scaled": _scaled,
    "exclusive gate": lambda options: {"path": ("× (1 - g)",), "gain": ("× g",), "gate": _gate(options)},
    "shortcut-only gate": lambda options: {"path": ("× (1 - g)",), "gate": _gate(options)},
    "1x1 conv": lambda options: {"path": ("1x1 conv", "BN")},
    "dropout": lambda options: {"path": (f"dropout {options['p']:g}",)},
}


def sketch(title, order_, shortcut_=Shortcut(), convs=2):
    """The Sketch of the unit with that Order, Shortcut and number of weight layers, within a stage."""
    return Sketch(title, order_.residual(convs), order_.after, **ON_SHORTCUT[shortcut_.kind](dict(shortcut_.options)))


# --- the figures, as sketches


def sketches_1():
    """Fig. 1 left: the original unit, and the proposed one."""
    return [sketch("(a) original", order("original")), sketch("(b) proposed", order("full pre-activation"))]


FIGURE_2 = {
    "(a) original": shortcut(),
    "(b) constant scaling": shortcut("scaled", a=0.5, b=0.5),
    "(c) exclusive gating": shortcut("exclusive gate", bias=-6),
    "(d) shortcut-only gating": shortcut("shortcut-only gate", bias=-6),
    "(e) 1x1 conv shortcut": shortcut("1x1 conv"),
    "(f) dropout shortcut": shortcut("dropout", p=0.5),
}


def sketches_2():
    """Fig. 2: the shortcuts of Table 1 on the original unit. As there, the BN after the weight layers is not shown."""
    found = [sketch(title, order("original"), each) for title, each in FIGURE_2.items()]

    def hide(words):
        return tuple(word for word in words if word not in ("bn", "BN"))

    return [replace(each, residual=hide(each.residual), path=hide(each.path), gate=hide(each.gate)) for each in found]


def sketches_4():
    """Fig. 4: the five orders."""
    panels = [each for each in ORDERS.values() if each.figure.startswith("Fig. 4")]
    return [sketch(f"{each.figure.removeprefix('Fig. 4')} {each.name}", each) for each in panels]


def asymmetric(order_):
    """The Order that is left when what follows the addition acts on the next residual branch alone (Fig. 5, Eq. 9)."""
    following = CHAIN[(CHAIN.index(order_.join) + 1) % 3]
    return Order(f"{order_.name}, asymmetric", "Fig. 5", split=following, join=order_.join)


# --- and drawn

STEP = 0.62  # from one word's box to the next
WIDE, HIGH = 1.15, 0.42  # of a box
BRANCH, GATE = 1.5, -1.55  # where the branch and the gate stand beside the shortcut, at 0
TINTS = {"weight": COLOURS[0], "1x1 conv": COLOURS[0], "BN": COLOURS[2], "ReLU": COLOURS[1]}


def figure_1():
    """Fig. 1, left."""
    caption = """Fig. 1, left. The grey arrow is the easiest path of a signal: in the original unit (a) it ends at the
    ReLU after the addition, in the proposed one (b) it meets nothing but additions."""
    return _side_by_side(sketches_1(), 1, "Fig. 1, left: the original Residual Unit and the proposed one.", caption)


def figure_2():
    """Fig. 2."""
    caption = """Fig. 2. In (b) to (f) something stands on the grey arrow; in (b) and (c) the branch is scaled as well.
    BN is not drawn, as in the paper."""
    return _side_by_side(sketches_2(), 2, "Fig. 2: six kinds of shortcut connection on the original unit.", caption, 3)


def figure_4():
    """Fig. 4."""
    caption = """Fig. 4. The same components in five orders. The grey arrow is clean in (c), (d) and (e), but the branch
    of (c) ends in a ReLU and can only add."""
    return _side_by_side(sketches_4(), 4, "Fig. 4: the same components in five orders.", caption)


def described(sketch):
    """A Sketch in words, for those who cannot see it."""
    said = [f"{sketch.title}: the residual branch is {_listed(sketch.residual)}"]
    if sketch.gain:
        said.append(f"then {_listed(sketch.gain)}")
    if sketch.gate:
        said.append(f"a gate g is {_listed(sketch.gate)}")
    shortcut_ = _listed(sketch.path) if sketch.path else "clean"
    said.append(f"the shortcut is {shortcut_}" if sketch.connected else "there is no shortcut")
    said.append(f"after the addition {_listed(sketch.after) if sketch.after else 'nothing'}")
    return ", ".join(said) + "."


def _listed(words):
    return ", ".join(WORDS.get(word, word) for word in words)


def figure_5(name="BN after addition"):
    """Fig. 5: a net of that order; with what follows its additions on the branches alone; that net grouped anew."""
    post, pre = order(name), asymmetric(order(name))
    titles = ("(a) on both paths", "(b) on the residual path", "(c) as pre-activation")
    height = 2 * max(height_of(sketch("", each)) for each in (post, pre))
    drawing, axes = _grid(1, 3, (-0.9, BRANCH + 0.9), height)
    for place, (axis, each, title) in enumerate(zip(axes, (post, pre, pre), titles, strict=True)):
        unit = sketch(title, each)
        first = draw(axis, unit, 0.0, f"fig5-{place}-0", leaves=None)
        second = draw(axis, unit, first["bottom"], f"fig5-{place}-1", enters=None, leaves="$x_{l+2}$")
        if place == 1:  # from one unit's first weight layer, past its addition, to where the next unit has its own
            _group(axis, *(row["residual"][len(each.lead)] + STEP / 2 for row in (first, second)))
        else:
            _group(axis, second["split"] + 0.12, second["bottom"] + 0.15)
        axis.set_title(title, size=9, color=INK)
    words = _listed(post.after)
    alt = f"""Fig. 5: two units of {post.name} one after the other, {words} after each addition; then the same with
    {words} at the start of the residual branch only; then this drawn as units of their own, each with the branch
    {_listed(pre.residual(2))}. A dashed frame shows what is taken for one unit."""
    caption = """Fig. 5. The activation after the addition acts on both paths of the next unit (a), then on its residual
    path alone (b); with the dashed frame drawn elsewhere, (b) is a net of pre-activation units (c)."""
    return Picture(drawing, alt, caption=caption)


def _side_by_side(sketches, number, alt, caption, columns=None):
    gated = any(each.gate for each in sketches)
    columns = columns or len(sketches)
    height = max(map(height_of, sketches))
    drawing, axes = _grid(len(sketches) // columns, columns, (GATE - 1.0 if gated else -1.0, BRANCH + 0.8), height)
    for place, (axis, each) in enumerate(zip(axes, sketches, strict=True)):
        draw(axis, each, 0.0, f"fig{number}-{place}")
        axis.set_title(each.title, size=9, color=INK)
    return Picture(drawing, " ".join([alt, *map(described, sketches)]), caption=caption)


def _grid(rows, columns, across, height):
    """A figure of equal axes for drawings that reach `across` (left, right) and `height` down, and no more paper."""
    # three units side by side are wider than a phone, where they scroll at a readable size
    scale = 0.57  # inches a unit of length
    drawing = figure(scale * columns * (across[1] - across[0]), rows * (scale * (height + 0.5) + 0.3))
    axes = drawing.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set(xlim=across, ylim=(-height - 0.35, 0.15), aspect="equal")
        axis.axis("off")
    return drawing, axes


def height_of(sketch):
    """How far down its drawing reaches."""
    return 0.45 - _added(sketch, 0.0) + 0.5 + STEP * len(sketch.after)


def _added(sketch, split):
    """How high the addition is, where the paths part at `split`."""
    words = max(len(sketch.residual) + len(sketch.gain), len(sketch.path) + 1, len(sketch.gate) + 1)
    return split - STEP * words - 0.45


def draw(axis, sketch, top, id, enters="$x_l$", leaves="$x_{l+1}$"):
    """Draw a unit whose input comes in at height `top`; gives the heights of its parts.

    enters, leaves: what to call its input and output, None where another unit joins.

    Each word's text carries the id of its place, `<id>-residual-0` say, from which a test reads the drawing back.
    """
    split = top - 0.45
    added = _added(sketch, split)
    bottom = added - 0.5 - STEP * len(sketch.after)
    heights = [split - STEP * (row + 0.8) for row in range(len(sketch.residual) + len(sketch.gain))]
    for label, height in ((enters, top - 0.12), (leaves, bottom - 0.1)):
        axis.text(0.15, height, label or "", ha="left", va="center", color=INK, size=9)

    end = added + 0.16 if sketch.connected else split
    _arrow(axis, (0, top), (0, end), GREY, width=4.0, head=sketch.connected)
    _line(axis, [(0, split), (BRANCH, split), (BRANCH, added)])
    _arrow(axis, (BRANCH, added), (0.16, added), INK)
    axis.text(0, added, "+" if sketch.connected else "", ha="center", va="center", color=INK, size=11)
    axis.add_patch(_circle(0, added, 0.16))
    colour, width = (INK, 1.2) if sketch.after else (GREY, 4.0)
    _arrow(axis, (0, added - 0.16), (0, bottom), colour, width, head=leaves is not None)

    for row, word in enumerate(sketch.residual):
        _box(axis, BRANCH, heights[row], word, f"{id}-residual-{row}")
    for row, word in enumerate(sketch.gain):
        _box(axis, BRANCH, heights[len(sketch.residual) + row], word, f"{id}-gain-{row}")
    middle = (split + added) / 2
    for row, word in enumerate(sketch.path):
        height = (added + 0.62 if sketch.gate else middle) + STEP * ((len(sketch.path) - 1) / 2 - row)
        _box(axis, 0, height, word, f"{id}-path-{row}")
    if sketch.gate:
        meets = added + 0.62
        _line(axis, [(0, split), (GATE, split), (GATE, meets)])
        _arrow(axis, (GATE, meets), (-WIDE / 2, meets), INK)
        for row, word in enumerate(sketch.gate):
            _box(axis, GATE, split - STEP * (row + 0.8), word, f"{id}-gate-{row}")
        axis.text(GATE - 0.1, meets, "$g$", ha="right", va="center", color=INK, size=9)
    for row, word in enumerate(sketch.after):
        _box(axis, 0, added - 0.6 - STEP * row, word, f"{id}-after-{row}")
    return {"split": split, "residual": heights, "added": added, "bottom": bottom}


def _box(axis, x, y, word, id):
    from matplotlib.patches import FancyBboxPatch

    text = WORDS.get(word, word)
    wide = max(WIDE, 0.13 * len(text) + 0.2)
    corner, shape = (x - wide / 2, y - HIGH / 2), "round,pad=0,rounding_size=0.08"
    axis.add_patch(FancyBboxPatch(corner, wide, HIGH, boxstyle=shape, facecolor=PAPER, edgecolor="none"))
    tint = TINTS.get(text, GREY)
    axis.add_patch(FancyBboxPatch(corner, wide, HIGH, boxstyle=shape, facecolor=(tint, 0.25), edgecolor=tint))
    axis.text(x, y, text, ha="center", va="center", color=INK, size=8, gid=id)


def _circle(x, y, radius):
    from matplotlib.patches import Circle

    return Circle((x, y), radius, facecolor="none", edgecolor=INK, linewidth=1.0)


def _line(axis, points):
    axis.plot(*zip(*points, strict=True), color=INK, linewidth=1.2, solid_capstyle="butt", zorder=0.5)


def _arrow(axis, start, end, colour, width=1.2, head=True):
    style = "-|>,head_width=0.12,head_length=0.2" if width < 3 else "-|>,head_width=0.35,head_length=0.5"
    arrow = {"arrowstyle": style if head else "-", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops=arrow | {"mutation_scale": 10}, zorder=0.4)


def _group(axis, top, bottom):
    from matplotlib.patches import Rectangle

    corner = (-0.68, bottom)
    axis.add_patch(
        Rectangle(corner, BRANCH + 1.36, top - bottom, fill=False, edgecolor=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    )
