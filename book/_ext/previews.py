"""Equations have the paper's numbers, and a reference to one shows it where the reader points at it.

The TeX of each equation that a page refers to lies in the page, and MathJax sets it when it is first asked for. A
citation shows its title by Sphinx itself.
"""

import json
import re

from bs4 import BeautifulSoup
from docutils import nodes

SCRIPT = """
addEventListener("load", () => {
  const source = document.getElementById("referred-equations");
  if (!source) return;
  const tex = JSON.parse(source.textContent), box = document.createElement("div");
  box.className = "preview"; box.hidden = true; box.setAttribute("role", "tooltip"); document.body.append(box);
  const show = async (link) => {
    const label = link.getAttribute("href").split("#equation-")[1];
    await MathJax.startup.promise;
    box.replaceChildren(await MathJax.tex2svgPromise(tex[label], {display: true}));
    const at = link.getBoundingClientRect();
    box.hidden = false;
    box.style.left = Math.max(8, Math.min(at.left, innerWidth - box.offsetWidth - 8)) + scrollX + "px";
    box.style.top = at.bottom + scrollY + 6 + "px";
  };
  document.querySelectorAll('a.reference.internal[href*="#equation-"]').forEach((link) => {
    if (!(link.getAttribute("href").split("#equation-")[1] in tex)) return;
    for (const event of ["mouseenter", "focus"]) link.addEventListener(event, () => show(link));
    for (const event of ["mouseleave", "blur"]) link.addEventListener(event, () => (box.hidden = true));
  });
});
"""


def setup(app):
    app.connect("doctree-read", remember)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("html-page-context", hand_over)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def equations(env):
    """{label: (page, TeX)} of the equations that can be referred to."""
    if not hasattr(env, "equations"):
        env.equations = {}
    return env.equations


def remember(app, doctree):
    for node in doctree.findall(nodes.math_block):
        if label := node.get("label"):
            equations(app.env)[label] = (app.env.docname, node.astext())
            node["number"] = papers_number(label)
            app.env.get_domain("math").equations[label] = (app.env.docname, node["number"])


def papers_number(label):
    """The number of an equation labelled eq-9: the paper's, where Sphinx would count those of the page."""
    return int(label.removeprefix("eq-"))


def forget(app, env, docname):
    env.equations = {label: found for label, found in equations(env).items() if found[0] != docname}


def merge(app, env, docnames, other):
    equations(env).update({label: found for label, found in equations(other).items() if found[0] in docnames})


def hand_over(app, pagename, templatename, context, doctree):
    """Put the equations that a page refers to into it."""
    labels = set(re.findall(r'href="[^"]*#equation-([^"]+)"', context.get("body", "")))
    tex = {label: equations(app.env)[label][1] for label in sorted(labels) if label in equations(app.env)}
    if tex:
        soup = BeautifulSoup("", "html.parser")
        data = soup.new_tag("script", id="referred-equations", type="application/json")
        data.string = json.dumps(tex).replace("</", "<\\/")
        context["body"] += str(data)
        app.add_js_file(None, body=SCRIPT)
