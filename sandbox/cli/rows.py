"""Tables on stdout.  (cold)"""

import re
from typing import Any

from sandbox.errors import printable


def table(columns: tuple[tuple[str, str], ...], cells: list[dict[str, Any]], *, heading: bool = True) -> None:
    """Rows below headings, as wide as they need."""
    lines = [[title for title, _ in columns]] if heading else []
    lines += [[printable(str(cell[key])) for _, key in columns] for cell in cells]
    aligned(lines)


def aligned(lines: list[list[str]]) -> None:
    """Lines of cells, each column as wide as it needs."""
    count = max((len(line) for line in lines), default=0)
    widths = [max((len(line[i]) for line in lines if i < len(line)), default=0) for i in range(count)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def documents(found: list[dict[str, Any]], template: str) -> None:
    """What `inspect` prints: a JSON array, or each by a Go template."""
    from sandbox.image.describe import json_text, show
    from sandbox.image.goformat import render

    if not template or template == "json":
        print(json_text(found))
        return
    for one in found:
        print(show(render(template, one)))


def templated(
    template: str, cells: list[dict[str, Any]], columns: tuple[tuple[str, str], ...] = (), *, heading: bool = True
) -> None:  # fmt: skip
    """Each row by a Go template; `table TEMPLATE` aligns them below headings, those of `columns` where they have the field."""
    from sandbox.image.describe import show
    from sandbox.image.goformat import headings, render

    if not template.startswith("table "):
        for cell in cells:
            print(show(render(template, cell)))
        return
    body = re.sub(r"\}\} +\{\{", "}}\t{{", template[6:])  # a space parts columns, as podman has it
    lines = [headings(body, {field: title for title, field in columns}).split("\t")] if heading else []
    lines += [render(body, cell).split("\t") for cell in cells]
    aligned([[printable(text) for text in line] for line in lines])
