"""A view as text: for a terminal, a pager, or a file."""

import unicodedata
from itertools import groupby
from typing import Any

from ...schemas.terminal import own
from .decoding import decode
from .lines import INK, Block, Line, View, lay_out, shade

__all__ = ["print_view"]

LEFT_TO_RIGHT, ISOLATE, END = "\u200e", "\u2068", "\u2069"
NARROWEST = 20


def print_view(view: View, tokenizer: Any, console: Any) -> None:
    """Prints a view on a console of rich; the margin has the weights, with or without colour."""
    from rich.text import Text

    console.print(Text(view.title, style="bold"), soft_wrap=True)
    for note in view.notes:
        console.print(Text(note), soft_wrap=True)
    if console.color_system and not console.no_color:
        console.print(_legend(view))
    margin = max(len(_number(w)) for w in (*view.weights, "weight"))
    for i, block in enumerate(view.blocks):
        if i == 0:
            console.print(Text(f"\n{'context':>9} {'weight':>{margin}} │", style="dim"))
        console.print(
            Text(f"\n{_heading(block, console.width)}", style="bold cyan"), soft_wrap=True
        )
        room = max(NARROWEST, console.width - margin - 14)
        for line in lay_out(block, decode(tokenizer, block.ids.tolist()), room):
            console.print(_line(line, block, view, margin), soft_wrap=True)


def _heading(block: Block, width: int) -> str:
    """The phrases of a heading, in as many lines as they need."""
    from rich.cells import cell_len

    lines = [f"── {block.heading[0]}"]
    for phrase in block.heading[1:]:
        longer = f"{lines[-1]}, {phrase}"
        if cell_len(longer) < width:
            lines[-1] = longer
        else:
            lines[-1] += ","
            lines.append(f"   {phrase}")
    return "\n".join(lines)


def _number(weight: float | str | None) -> str:
    if weight is None:
        return "-"
    return weight if isinstance(weight, str) else f"{weight:.4g}"


def _line(line: Line, block: Block, view: View, margin: int) -> Any:
    from rich.text import Text

    text = Text(f"{line.context:>9,} {_number(line.weight):>{margin}} │ ", style="dim", end="")
    turned = any(unicodedata.bidirectional(c) in ("R", "AL") for c in line.text)
    body = Text(end="")
    style = "" if line.weight is None else _style(line.weight, view)
    for counts, parts in groupby(line.parts, lambda part: bool(block.supervised[part[1]])):
        body.append("".join(text for text, _ in parts), style if counts else "dim underline")
    if turned:
        # A terminal that reverses such text must not reverse the margin with it.
        return Text.assemble(own(LEFT_TO_RIGHT), text, own(ISOLATE), body, own(END))
    return Text.assemble(text, body)


def _style(weight: float, view: View) -> str:
    back = shade(weight, view.weights[-1], view.weights[0])
    return f"{INK} on {back}" if back else ""


def _legend(view: View) -> Any:
    from rich.text import Text

    legend = Text("weight  ")
    for weight in view.weights:
        legend.append(f" {weight:.4g} ", _style(weight, view))
        legend.append(" ")
    legend.append("   ")
    legend.append("no target", "dim underline")
    return legend
