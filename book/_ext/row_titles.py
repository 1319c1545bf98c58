"""Give each executed notebook a title of its own: all rows of a table share one notebook, and so one heading."""

import json


def setup(app):
    app.connect("source-read", retitle)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def retitle(app, docname, source):
    """Put row and tier, which the page's name holds, into the first heading of runs/<tier>/table-<t>/<row>."""
    if not docname.startswith("runs/"):
        return
    _, tier, _, row = docname.split("/")
    notebook = json.loads(source[0])
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    lines = "".join(first["source"]).splitlines()
    name, _, reduction = row.partition("-at-")
    cut = f" at {reduction}" if reduction else ""
    lines[0] = f"# {name}{cut}, {tier} tier"
    first["source"] = "\n".join(lines)
    source[0] = json.dumps(notebook)
