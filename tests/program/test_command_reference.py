"""docs/commands.md has every command, and its help as it is now."""

import re

import click
import harness
import pytest
from command_reference import PAGE, WIDTH, reference

from exactcpt.pipeline.cli import cli


def sections(page: str) -> dict[str, str]:
    """The help under each heading."""
    return dict(re.findall(r"^## ([^\n]+)\n\n```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))


def test_the_page_is_current():
    assert PAGE.read_text("utf-8") == reference(), "`make reference` writes it anew"


def test_every_command_has_a_section_with_its_help():
    listed = harness.done("--help").out.partition("Prepare:\n")[2]
    names = re.findall(r"^  (\S+)", listed, re.MULTILINE)
    assert {"prepare", "train"} <= set(names)
    found = sections(PAGE.read_text("utf-8"))
    assert list(found) == ["exactcpt", *(f"exactcpt {name}" for name in names)]
    for title, text in found.items():
        assert text.startswith(f"Usage: {title} [OPTIONS]"), title
        printed = harness.done(*title.split()[1:], "--help").out
        assert set(re.findall(r"--[a-z][\w-]*", printed)) == set(
            re.findall(r"--[a-z][\w-]*", text)
        ), title


@pytest.mark.parametrize("columns", [None, "40", "200"])
def test_the_width_is_not_the_terminals(monkeypatch, columns):
    page = reference()
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    assert reference() == page
    assert max(map(len, page.splitlines())) <= WIDTH


def test_a_new_option_makes_the_page_outdated(monkeypatch):
    verify = cli.commands["verify"]
    option = click.Option(["--loudly"], is_flag=True, help="Say more.")
    monkeypatch.setattr(verify, "params", [*verify.params, option])
    assert "--loudly" in reference()
    assert reference() != PAGE.read_text("utf-8")
