"""Small instruments for the book: a slider, and a picture that follows it, with nothing fetched from anywhere.

Each is an `Explorer`: an SVG drawn in the page by a few lines of JavaScript, from the formula of Eq. 7 for equal
lambdas, and a still picture of several settings for PDF and for readers without scripts.
"""

import html
import math
from dataclasses import dataclass

from .pictures import COLOURS, Picture, caption, lines


@dataclass
class Explorer:
    """A picture that a reader can move: its HTML with script, and the still Picture of where it starts."""

    page: str
    still: Picture

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {**self.still._repr_mimebundle_(), "text/html": self.page}


def gate_factor(bias):
    """What a gate with that initial bias leaves of the shortcut at first, 1 - sigmoid(bias), where W x is near zero."""
    return 1.0 / (1.0 + math.exp(bias))


def lambdas(units=54, factor=0.95):
    """The product of Eq. 7 over `units` units for a factor that the reader chooses."""
    still = lines(
        {f"λ = {each:g}": powers(each, units) for each in (0.5, 0.9, factor, 1.0, 1.05)},
        "units",
        alt=f"The product of λ over up to {units} units, on a logarithmic axis: straight lines, which fall for λ below "
        "one, stay at one for λ = 1, and rise above it.",
        caption="""The product of λ over the units that a signal passes, on a logarithmic axis: a straight line, which
        falls for λ below one, stays at one for λ = 1, and rises for λ above one.""",
        name="product-of-lambdas",
        xlabel="units passed, L - l",
        ylabel="product of λ",
        log=True,
    )
    return _explorer("lambda", still, "lambda", (0.4, 1.2, 0.01, factor), units, "factor")


def gates(units=54, bias=-6.0):
    """The same product where a gate stands on each shortcut, by the bias that the gates start from."""
    still = lines(
        {f"b = {each:g}": powers(gate_factor(each), units) for each in (0.0, -1.0, -3.0, -5.0, bias, -7.0)},
        "units",
        alt=f"The share of the signal that {units} gated shortcuts let through at the start, by the gates' bias: at 0 "
        "it halves with every unit, at -6 most of it arrives.",
        caption="""The share of the signal that gated shortcuts let through at the start, by the bias that the gates
        start from: from 0 it halves with every unit; from -6 most of it arrives, even after 54.""",
        name="gated-shortcuts",
        xlabel="units passed, L - l",
        ylabel="product of 1 - g",
        log=True,
    )
    return _explorer("gate", still, "bias", (-10.0, 2.0, 0.1, bias), units, "1 / (1 + Math.exp(factor))")


def powers(factor, units):
    """factor to the power 0, 1, ..., units."""
    return [factor**power for power in range(units + 1)]


def _explorer(id, still, word, slider, units, formula):
    """The HTML of an explorer with one slider (least, most, step, start), and the JavaScript of `factor` to λ."""
    least, most, step, start = slider
    values = {
        "ID": id,
        "WORD": {"lambda": "λ on every shortcut", "bias": "the gates' initial bias"}[word],
        "SYMBOL": {"lambda": "λ", "bias": "1 − g"}[word],
        "LEAST": least,
        "MOST": most,
        "STEP": step,
        "START": start,
        "UNITS": units,
        "FORMULA": formula,
        "COLOUR": COLOURS[0],
        "ALT": f'"{html.escape(still.alt)}"',
        "CAPTION": caption(still.words, still.link()),
        "STILL": still.png(),
    }
    page = TEMPLATE
    for name, value in values.items():
        page = page.replace(f"@{name}@", str(value))
    return Explorer(page, still)


TEMPLATE = """
<figure class="drawn explorer" id="explore-@ID@">
<form onsubmit="return false">
<label>@WORD@ <input type="range" name="factor" min="@LEAST@" max="@MOST@" step="@STEP@" value="@START@">
<output name="chosen"></output></label>
<label>units <input type="range" name="units" min="1" max="333" step="1" value="@UNITS@"><output name="count"></output>
</label></form>
<div><svg viewBox="0 0 640 300" width="640" fill="currentColor" font-size="12" role="img" aria-label=@ALT@></svg></div>
<noscript><img alt=@ALT@ src="data:image/png;base64,@STILL@"></noscript>
<p aria-live="polite"></p>
@CAPTION@
<script>
(() => {
  const root = document.getElementById("explore-@ID@");
  const form = root.querySelector("form"), svg = root.querySelector("svg");
  const left = 72, top = 12, bottom = 262, decades = 310;  // nothing that the sliders reach is cut
  const fixed = (value) => value.toPrecision(3).replace("-", "\\u2212");
  const raised = (power) => String(power).replace(/[-\\d]/g, (sign) => sign === "-" ? "\\u207b"
    : "\\u2070\\u00b9\\u00b2\\u00b3\\u2074\\u2075\\u2076\\u2077\\u2078\\u2079"[sign]);
  const scientific = (power) => {
    const mantissa = Math.pow(10, power - Math.floor(power));
    return Math.abs(power) < 3 ? Math.pow(10, power).toPrecision(3)
      : mantissa.toFixed(1) + " \\u00d7 10" + raised(Math.floor(power));
  };
  const draw = () => {
    const factor = Number(form.elements.factor.value), units = Number(form.elements.units.value);
    const lambda = @FORMULA@, slope = Math.log10(lambda);
    const width = Math.min(640, root.clientWidth || 640), right = width - 16;  // on a phone words keep their size
    svg.setAttribute("viewBox", `0 0 ${width} 300`);
    const reach = Math.min(decades, Math.max(2, Math.ceil(Math.abs(slope * units))));
    const low = slope < 0 ? -reach : -1, high = slope < 0 ? 1 : reach;
    const x = (unit) => left + (right - left) * unit / units;
    const y = (power) => bottom - (bottom - top) * (power - low) / (high - low);
    const parts = [], every = Math.max(1, Math.round((high - low) / 6));
    for (let power = Math.ceil(low / every) * every; power <= high; power += every)
      parts.push(`<line x1="${left}" x2="${right}" y1="${y(power)}" y2="${y(power)}" stroke="currentColor" `
        + `stroke-opacity="${power === 0 ? 0.6 : 0.15}"/><text x="${left - 8}" y="${y(power) + 4}" text-anchor="end">`
        + `10<tspan dy="-5" font-size="9">${power}</tspan></text>`);
    for (let part = 0; part <= 4; part++) {
      const unit = Math.round(units * part / 4);
      parts.push(`<text x="${x(unit)}" y="${bottom + 18}" text-anchor="middle">${unit}</text>`);
    }
    const end = Math.max(low, Math.min(high, slope * units));
    const stop = slope === 0 ? units : Math.min(units, end / slope);
    parts.push(`<line x1="${x(0)}" y1="${y(0)}" x2="${x(stop)}" y2="${y(end)}" stroke="@COLOUR@" stroke-width="3"/>`,
      `<circle cx="${x(stop)}" cy="${y(end)}" r="5" fill="@COLOUR@"/>`,
      `<text x="${(left + right) / 2}" y="${bottom + 36}" text-anchor="middle">units passed, L \\u2212 l</text>`,
      `<text transform="translate(14 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">`
        + "product of @SYMBOL@</text>");
    svg.innerHTML = parts.join("");
    form.elements.chosen.value = fixed(factor);
    form.elements.count.value = units;
    root.querySelector("p").textContent = "@SYMBOL@ = " + lambda.toPrecision(4) + ": after " + units
      + " units the shortcut carries " + scientific(slope * units) + " times the signal, and of the gradient.";
  };
  form.addEventListener("input", draw);
  addEventListener("resize", draw);
  draw();
})();
</script>
</figure>
"""
