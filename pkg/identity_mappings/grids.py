"""Lines of cells as a terminal and as a page show them."""


def plain(lines):
    """Lines of text, the first as the others, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def markdown(header, lines, right=0):
    """A Markdown table. right: how many columns at its end are numbers, aligned to the right."""
    rule = ["---"] * (len(header) - right) + ["--:"] * right
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in [header, rule, *lines])


def captioned(caption, header, lines, right=0):
    """The same with a caption, as MyST has it."""
    return under(caption, markdown(header, lines, right))


def under(caption, table):
    """A Markdown table under a caption."""
    return f":::{{table}} {caption}\n:class: results\n\n{table}\n:::"
