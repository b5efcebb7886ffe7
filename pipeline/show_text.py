"""A view as text: for a terminal, a pager, or a file."""

import unicodedata
from typing import Any

from .decoding import decode
from .show_lines import Block, Line, View, lay_out, shade

__all__ = ["print_view"]

LEFT_TO_RIGHT, ISOLATE, END = "\u200e", "\u2068", "\u2069"
NARROWEST = 20


def print_view(view: View, tokenizer: Any, console: Any) -> None:
    """Prints a view on a rich console; without colour the margin still has the weights."""
    from rich.text import Text

    console.print(Text(view.title, style="bold"), soft_wrap=True)
    for note in view.notes:
        console.print(Text(note), soft_wrap=True)
    if console.color_system and not console.no_color:
        console.print(_legend(view))
    margin = max(len(_number(w)) for w in (*view.weights, "weight"))
    console.print(Text(f"\n{'context':>9} {'weight':>{margin}} │", style="dim"))
    for block in view.blocks:
        console.print(
            Text(f"\n{_heading(block, console.width)}", style="bold cyan"), soft_wrap=True
        )
        room = max(NARROWEST, console.width - margin - 14)
        for line in lay_out(block, decode(tokenizer, block.ids.tolist()), room):
            console.print(_line(line, block, view, margin), soft_wrap=True)


def _heading(block: Block, width: int) -> str:
    from rich.cells import cell_len

    heading = f"── {block.heading}"
    if not block.detail:
        return heading
    one_line = f"{heading}, {block.detail}"
    return one_line if cell_len(one_line) <= width else f"{heading}\n   {block.detail}"


def _number(weight: float | str | None) -> str:
    if weight is None:
        return "-"
    return weight if isinstance(weight, str) else f"{weight:.4g}"


def _line(line: Line, block: Block, view: View, margin: int) -> Any:
    from rich.text import Text

    text = Text(f"{line.context:>9,} {_number(line.weight):>{margin}} │ ", style="dim", end="")
    turned = any(unicodedata.bidirectional(c) in ("R", "AL") for c in line.text)
    body = Text(end="")
    colours = None if line.weight is None else shade(line.weight, view.weights[-1], view.weights[0])
    style = f"{colours[1]} on {colours[0]}" if colours else ""
    for part, token in line.parts:
        body.append(part, style if block.supervised[token] else "dim underline")
    if turned:
        # A terminal that turns such text must not turn the margin with it.
        return Text.assemble(LEFT_TO_RIGHT, text, ISOLATE, body, END)
    return Text.assemble(text, body)


def _legend(view: View) -> Any:
    from rich.text import Text

    legend = Text("weight  ")
    for weight in view.weights:
        colours = shade(weight, view.weights[-1], view.weights[0])
        legend.append(f" {weight:.4g} ", f"{colours[1]} on {colours[0]}" if colours else "")
        legend.append(" ")
    legend.append("   ")
    legend.append("no target", "dim underline")
    return legend
