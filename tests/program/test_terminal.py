"""Nothing that a terminal obeys reaches it, except what the program means it to obey."""

import ast
import copy
import hashlib
import io
import json
import re
import unicodedata
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from handmade import Corpus, Document, edit_documents, edit_manifest, write_shards, write_store
from harness import DATA

from exactcpt.pipeline.cli import run_command
from exactcpt.schemas import terminal

REPOSITORY = Path(__file__).parents[2]
THE_ONE = "schemas/terminal.py"
PRINTS = {
    "print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write",
    "traceback.print_exc", "logging.basicConfig", "warnings.showwarning", "error.show",
    "Console", "RichConsole", "rich.print",
}  # fmt: skip
OF_OURS = {
    "pipeline/commands/invocation.py",
    "pipeline/commands/verify.py",
    "pipeline/weigh/memory.py",
}


def prints(source: str) -> list[str]:
    """The calls of a module that print past `schemas.terminal`, with their lines."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    named = ((ast.unparse(call.func), call.lineno) for call in calls)
    return [f"line {line}: {name}" for name, line in named if name in PRINTS]


def test_nothing_else_prints():
    found = {
        path.relative_to(REPOSITORY).as_posix(): prints(path.read_text("utf-8"))
        for folder in ("pipeline", "schemas", "training")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    }
    ours = {path for path, source in imports_of_our_console().items() if source}
    assert {path: calls for path, calls in found.items() if calls and path not in ours} == {
        THE_ONE: found[THE_ONE]
    }
    assert found[THE_ONE]


def imports_of_our_console() -> dict[str, bool]:
    """Modules whose `Console` is the one of `pipeline.terminal`, and not that of rich."""
    return {
        path: "terminal import Console" in (REPOSITORY / path).read_text("utf-8")
        for path in OF_OURS
    }


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "import click\nclick.echo('x')",
        "def f():\n    sys.stderr.write('x')",
        "from rich.console import Console\nConsole().print('x')",
        "try:\n    pass\nexcept E:\n    traceback.print_exc()",
    ],
)
def test_a_print_would_be_seen(source):
    assert prints(source)


# Every command, on a set whose every string is hostile

EVIL = "\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202egnp\u2066\x00\x7f\r\x08[red]x[/] [/nope] :smile: \udcff"
SGR = re.compile("\x1b\\[[0-9;]*m")
BAR = re.compile("\r\x1b\\[2K(\x1b\\[1A\x1b\\[2K)*|\x1b\\[\\?25[lh]")
"""How a progress bar of rich goes back to its beginning, and hides the cursor."""


def obeyed(text: str) -> list[str]:
    """What a terminal would obey in a text: control characters and marks of direction."""
    return [
        f"U+{ord(c):04X}"
        for c in text
        if c not in "\n\t\u200c\u200d" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    ]


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A set in which names, ids, warnings and settings are hostile, and the numbers are right."""
    folder = tmp_path_factory.mktemp("hostile")
    documents = [Document(40), Document(9), Document(70), Document(30, "validation")]
    corpus = Corpus([("a", documents)], window=32, windows_per_shard=3)
    write_store(folder / "store", corpus)
    write_shards(folder / "shards", corpus, folder / "store")
    tokenizer = (DATA / "tokenizer.json").read_bytes()
    (folder / "shards" / "tokenizer.json").write_bytes(tokenizer)

    def edit(m: dict[str, Any]) -> None:
        m["warnings"] = [EVIL, f"[link=http://x]{EVIL}[/link]"]
        m["versions"]["numpy"] = EVIL
        m["tokenizer"].update(sha256=hashlib.sha256(tokenizer).hexdigest(), eos_token=EVIL)
        m["inputs"] = [
            {"source": EVIL, "path": EVIL, "bytes": 1, "xxh3_128": EVIL, "skipped": EVIL}
        ]
        m["settings"]["tokenize"] = {EVIL: EVIL}
        m["settings"]["mixing"] = {EVIL: {"epochs": 1.0}}
        for source in m["sources"]:
            source["name"] = EVIL
            source["read"]["rejected"] = {EVIL: 3}

    edit_manifest(folder / "shards", edit)

    def rename(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row.update(id=safe(f"{EVIL}{row['doc_index']}"), source=safe(EVIL), part=safe(EVIL))

    edit_documents(folder / "shards", rename)
    return folder / "shards"


def safe(text: str) -> str:
    """The same without half characters, which Parquet does not take."""
    return text.encode("utf-8", "ignore").decode()


COMMANDS = {
    "inspect": ["inspect", "SET", "--by-source"],
    "inspect as CSV": ["inspect", "SET", "--by-source", "--csv"],
    "inspect as JSON": ["inspect", "SET", "--by-source", "--json"],
    "show": ["show", "SET"],
    "show a document": ["show", "SET", "--doc", "#2"],
    "show no document": ["show", "SET", "--doc", EVIL],
    "show the heaviest": ["show", "SET", "--heaviest"],
    "verify": ["verify", "SET"],
    "verify as JSON": ["verify", "SET", "--json"],
    "reweigh": ["reweigh", "SET", "--alpha", "0.5", "--json", "--out", "OUT"],
    "publish": ["publish", "SET", "--out", "OUT"],
    "reweigh a table": ["reweigh", "SET", "--table-only", "--alpha", "0.5"],
    "an unknown flag": ["show", "SET", f"--{EVIL}"],
    "an unknown command": [EVIL],
    "a file that is not there": ["inspect", EVIL],
    "a configuration": ["prepare", "--config", "TOML", "--out", "OUT", "--print-config"],
    "an unknown setting": ["prepare", "--config", "BAD", "--out", "OUT"],
    "a model that is not there": ["train", "--shards", "SET", "--model", EVIL, "--out", "OUT"],
    "runs that are not there": ["compare", EVIL, EVIL],
}


@pytest.mark.parametrize("seen", [io.StringIO, Terminal])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_control_character_is_printed(hostile, tmp_path, monkeypatch, name, seen):
    if seen is Terminal:
        colours = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color"}
        for variable, value in colours.items():
            monkeypatch.setenv(variable, value)
    evil = json.dumps(safe(EVIL))
    (tmp_path / "good.toml").write_text(
        f'tokenizer = {evil}\n[[source]]\nname = "a"\npattern = {evil}\n'
    )
    (tmp_path / "bad.toml").write_text(f"{evil} = 1\n")
    places = {
        "SET": str(hostile),
        "OUT": str(tmp_path / "out"),
        "TOML": str(tmp_path / "good.toml"),
        "BAD": str(tmp_path / "bad.toml"),
    }
    arguments = [places.get(word, word) for word in COMMANDS[name]]
    out, err = seen(), seen()
    with redirect_stdout(out), redirect_stderr(err):
        run_command(arguments)
    printed = out.getvalue() + err.getvalue()
    assert printed
    assert "internal error" not in printed
    assert obeyed(BAR.sub("", SGR.sub("", printed))) == []


def test_a_hostile_name_is_shown(hostile):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        run_command(["reweigh", str(hostile), "--table-only"])
    assert "warning: ␛]0;PWNED␇␛[2J<U+009B>31m<U+202E>gnp<U+2066>␀␡␍␈[red]x[/] [/nope] " in (
        err.getvalue()
    )


def test_data_keeps_its_values(hostile):
    out = io.StringIO()
    with redirect_stdout(out):
        run_command(["inspect", str(hostile), "--by-source", "--json"])
    (subject,) = json.loads(out.getvalue())["subjects"]
    assert [source["name"] for source in subject["sources"]] == [EVIL]


# The parts of it


def test_a_console_keeps_its_own_colours():
    printer = terminal.console()
    printer.file = io.StringIO()
    printer._color_system = 3
    printer.print(f"a{EVIL}b", style="yellow")
    printed = printer.file.getvalue()
    assert obeyed(SGR.sub("", printed)) == []
    assert "[/nope] :smile:" in printed


def test_marks_of_direction_of_our_own_pass():
    from rich.text import Text

    printer = terminal.console()
    printer.file = io.StringIO()
    printer.print(Text.assemble(terminal.own("\u2068"), f"x{EVIL}", terminal.own("\u2069")))
    assert obeyed(printer.file.getvalue()) == ["U+2068", "U+2069"]


def test_records_of_loggers(capsys, monkeypatch):
    import logging

    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    terminal.log_to_stderr(logging.INFO)
    logging.getLogger("beam").error("a %s", EVIL)
    printed = capsys.readouterr().err
    assert "PWNED" in printed
    assert obeyed(printed) == []


def test_warnings_of_libraries(monkeypatch):
    import warnings

    monkeypatch.setattr(warnings, "formatwarning", copy.copy(warnings.formatwarning))
    terminal.tame_warnings()
    assert obeyed(warnings.formatwarning(f"a{EVIL}", UserWarning, "f.py", 1, "x = 1")) == []
