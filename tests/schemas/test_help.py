"""Help in sections: everything is in it once, under the heading that is given."""

import click
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.help import SectionedCommand, in_sections

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(names=NAMES, order=st.permutations("abcdefgh"), cuts=st.tuples(*[st.integers(0, 8)] * 2))
def test_every_name_is_there_once(names, order, cuts):
    low, high = sorted(cuts)
    sections = {"one": order[:low], "two": order[low:high]}
    found = in_sections(names, sections, "rest")
    assert sorted(name for _, mine in found for name in mine) == sorted(names)
    by_heading = dict(found)
    assert all(by_heading.values())
    for heading, mine in sections.items():
        assert by_heading.get(heading, []) == [name for name in mine if name in names]
    assert by_heading.get("rest", []) == [n for n in names if n in order[high:]]


def test_options_under_headings():
    command = SectionedCommand(
        "c",
        params=[click.Option([f"--{name}"], help=f"Set {name}.") for name in ("red", "big", "old")],
        sections={"Colour": ("red", "blue"), "Nothing": ("green",), "Size": ("big",)},
    )
    text = command.get_help(click.Context(command))
    assert text.split("\n\n", 1)[1] == (
        "Colour:\n  --red TEXT  Set red.\n\n"
        "Size:\n  --big TEXT  Set big.\n\n"
        "Options:\n  --old TEXT  Set old.\n  --help      Show this message and exit."
    )
