"""Names of strangers in Markdown: whatever they are, a reader sees them and nothing else."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from exactcpt.pipeline.publish.licences import licence_fields
from exactcpt.pipeline.publish.markdown import code, table, text
from exactcpt.schemas.printable import printable

RENDERER = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table")
NAMES = st.text(max_size=30) | st.text("ab1 `|\\*_[]()<>#!~&$:@+-=.\t\n", max_size=20)
NASTY = [
    "`", "``a`", "a|b", "a\\|b", "a\\", "<b>", "&amp;", "[a](http://x)", "- a", "1. a", "# a",
    "*a*", "~~~", "  a", "a  ", "---", "=", "\x1b[2J", "<div x", "<!-- ", "| - |", "![x](y)",
    "http://x.y", "$$x$$",
]  # fmt: skip


def shown(markdown: str) -> str:
    """The text that a reader sees, spaces joined as browsers join them."""
    html = RENDERER.render(markdown)
    bare = re.sub(r"</?(p|h1|table|thead|tbody|tr|th|td|code|ul|li)>", " ", html)
    assert "<" not in bare, html
    for name, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        bare = bare.replace(name, character)
    return joined(bare)


def joined(value: str) -> str:
    return re.sub(r"\s+", " ", value).strip()


def with_examples(function):
    for name in NASTY:
        function = example(name)(function)
    return function


@with_examples
@given(NAMES)
def test_a_text_is_shown_as_it_is(name):
    seen = joined(printable(name))
    assert shown(f"# {text(name)}\n") == seen
    assert shown(f"- {text(name)}\n") == seen
    assert shown(table(["head"], [[text(name)]])) == joined(f"head {seen}")


@with_examples
@given(NAMES)
def test_code_is_shown_as_it_is(name):
    rendered = RENDERER.render(table(["one", "two"], [[code(name), "x"]]))
    assert rendered.count("<td>") == 2
    assert rendered.count("<code>") == 1
    assert shown(table(["one"], [[code(name)]])) == joined(f"one {printable(name)}")


@pytest.mark.parametrize(
    ("spdx", "fields"),
    [
        (None, {"license": "unknown"}),
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("ODC-By-1.0", {"license": "odc-by"}),
        ("GPL-3.0-only", {"license": "gpl-3.0"}),
        ("LGPL-2.1-or-later", {"license": "lgpl-2.1"}),
        ("LicenseRef-Mine", {"license": "other", "license_name": "licenseref-mine"}),
    ],
)
def test_licences_are_spelled_as_the_hub_spells_them(spdx, fields):
    assert licence_fields(spdx) == fields
