"""Where no line of a page ends: in its words, and never in its code, its addresses or its attributes."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book" / "_ext"))
import unbroken  # noqa: E402

MATH = '<span class="math notranslate nohighlight">\\(b_g\\)</span>'


def joined(body):
    context = {"body": body}
    unbroken.join(SimpleNamespace(), "page", "page.html", context, None)
    return context["body"].replace("\N{NO-BREAK SPACE}", "~")


@pytest.mark.parametrize(
    "words, kept",
    [
        ("<p>6.61 % of</p>", "<p>6.61~% of</p>"),
        ("<p>54.35 ± 3.70 (n = 5)</p>", "<p>54.35~±~3.70 (n~=~5)</p>"),
        ("<p>in = 5, a % b</p>", "<p>in = 5, a % b</p>"),
        ('<img alt="5 %"> 5 %', '<img alt="5 %"> 5~%'),
        ("<pre>5 % 3, n = 1</pre><code>5 % 3</code> 5 %", "<pre>5 % 3, n = 1</pre><code>5 % 3</code> 5~%"),
        ("<script>5 % 3</script>", "<script>5 % 3</script>"),
    ],
)
def test_spaces(words, kept):
    assert joined(words) == kept


@pytest.mark.parametrize("before, marks", [("(", "),"), ("", "."), ("(", ")"), ("", ":")])
def test_the_marks_around_a_formula_stay_with_it(before, marks):
    assert joined(f"<p>x {before}{MATH}{marks} y</p>") == f'<p>x <span class="whole">{before}{MATH}{marks}</span> y</p>'


def test_a_formula_between_words_is_left_as_it_is():
    assert joined(f"<p>a {MATH} b</p>") == f"<p>a {MATH} b</p>"


def test_an_option_of_a_command_is_one_word():
    shell = '<div class="highlight-sh notranslate"><div class="highlight"><pre>a-b --next-one 5 -m x</pre></div></div>'
    whole = '<span class="whole">{}</span>'.format
    assert joined(shell) == shell.replace("--next-one", whole("--next-one")).replace("-m", whole("-m"))
    assert joined(shell.replace("-sh", "-python")) == shell.replace("-sh", "-python")
