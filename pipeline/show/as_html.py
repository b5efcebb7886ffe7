"""A view as one HTML page that needs nothing else: no script, no font, no network."""

from collections.abc import Iterator
from html import escape
from typing import Any

from .decoding import decode
from .lines import INK, Block, Line, View, lay_out, shade

__all__ = ["page"]

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --faint: #5f5f5f; --rule: #d9d9d9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #161616; --faint: #a3a3a3; --rule: #3d3d3d }
}
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1.3rem; margin: 0 }
h2 { font-size: 1rem; margin: 2rem 0 .3rem; overflow-wrap: anywhere }
h2 small, p { color: var(--faint); font-weight: normal; margin: .2rem 0 }
h2 small { display: block; font-size: .85rem }
table { border-collapse: collapse; width: 100% }
th, td { vertical-align: baseline; padding: 0 }
th { font: .75rem/1.5 ui-monospace, monospace; color: var(--faint); text-align: right;
  white-space: nowrap; width: 1%; padding-right: .6rem }
thead th:last-child { text-align: left; width: auto; padding-left: .6rem }
td { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext;
  border-left: 1px solid var(--rule); padding-left: .6rem;
  font: .9rem/1.6 ui-monospace, monospace }
tbody:hover span:hover { outline: 1px solid currentColor }
.key { display: inline-block; padding: 0 .4rem; margin: 0 .3rem .3rem 0; border: 1px solid
  var(--rule); font: .85rem/1.5 ui-monospace, monospace }
@media (max-width: 30rem) {
  th { font-size: .65rem; padding-right: .3rem }
  td, thead th:last-child { padding-left: .3rem }
}
.none { color: var(--faint); text-decoration: underline dotted }
"""


def page(view: View, tokenizer: Any) -> str:
    """The page: one table per block, one row per line of text, one span per token."""
    return "".join(_parts(view, tokenizer))


def _parts(view: View, tokenizer: Any) -> Iterator[str]:
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(view.title)}</title>\n<style>{STYLE}{_shades(view)}</style>\n</head>\n"
        f"<body>\n<h1>{escape(view.title)}</h1>\n"
    )
    for note in view.notes:
        yield f"<p>{escape(note)}</p>\n"
    yield f'<p>weight {_keys(view)}<span class="key none">no target</span></p>\n'
    for block in view.blocks:
        yield from _block(block, view, tokenizer)
    yield "</body>\n</html>\n"


def _shades(view: View) -> str:
    rules: list[str] = []
    for i, weight in enumerate(view.weights):
        back = shade(weight, view.weights[-1], view.weights[0])
        if back:
            rules.append(f".w{i} {{ background: {back}; color: {INK} }}\n")
    return "".join(rules)


def _keys(view: View) -> str:
    return "".join(
        f'<span class="key w{i}">{weight:.4g}</span>' for i, weight in enumerate(view.weights)
    )


def _block(block: Block, view: View, tokenizer: Any) -> Iterator[str]:
    first, *more = block.heading
    yield f"<h2>{escape(first)}<small>{escape(', '.join(more))}</small></h2>\n"
    if not len(block.ids):
        return
    yield (
        '<table><thead><tr><th scope="col">context</th><th scope="col">weight</th>'
        '<th scope="col">text</th></tr></thead><tbody>\n'
    )
    for line in lay_out(block, decode(tokenizer, block.ids.tolist()), None):
        yield _row(line, block, view)
    yield "</tbody></table>\n"


def _row(line: Line, block: Block, view: View) -> str:
    weight = "-" if line.weight is None else f"{line.weight:.4g}"
    cells: list[str] = []
    for text, token in line.parts:
        context = f"context {block.first + token:,}"
        if not block.supervised[token]:
            cells.append(f'<span class="none" title="{context}: no target">{escape(text)}</span>')
            continue
        own = float(block.weights[token])
        back = shade(own, view.weights[-1], view.weights[0])
        kind = f' class="w{view.weights.index(own)}"' if back and own in view.weights else ""
        cells.append(f'<span{kind} title="{context}, weight {own:.4g}">{escape(text)}</span>')
    return f"<tr><th>{line.context:,}</th><th>{weight}</th><td>{''.join(cells)}</td></tr>\n"
