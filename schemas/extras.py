"""How to install what the base installation leaves out."""

import json
import shlex
from importlib.metadata import distributions
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

__all__ = ["install_line"]

NAME = "exactcpt"


def install_line(extra: str) -> str:
    """The command that adds an extra to this installation, from where it came: folder, file, index.

    Installers note where a package came from, unless it was an index:
    https://packaging.python.org/en/latest/specifications/direct-url/
    """
    # In a checkout, what building has left beside the code counts as installed, and notes nothing.
    for installed in distributions(name=NAME):
        if (noted := installed.read_text("direct_url.json")) is not None:
            return _line(json.loads(noted), extra)
    return f"pip install '{NAME}[{extra}]'"


def _line(origin: dict[str, Any], extra: str) -> str:
    url = urlsplit(str(origin["url"]))
    if url.scheme == "file":
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        # Always in quotes: brackets mean something to some shells.
        return f"pip install {editable}{_quoted(f'{url2pathname(url.path)}[{extra}]')}"
    if "vcs_info" in origin:
        source = f"{origin['vcs_info']['vcs']}+{origin['url']}@{origin['vcs_info']['commit_id']}"
    else:
        source = origin["url"]
    return f"pip install {_quoted(f'{NAME}[{extra}] @ {source}')}"


def _quoted(word: str) -> str:
    quoted = shlex.quote(word)
    return quoted if quoted != word else f"'{word}'"
