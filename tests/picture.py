"""Draws the picture of the README: what `make demo` prints.

python tests/picture.py DEMO_SHARDS      writes tests/data/demo.svg
"""

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from exactcpt.pipeline.summary import shard_tables
from exactcpt.schemas.manifest import SHARD_SET, Manifest, parse

PICTURE = Path(__file__).parent / "data" / "demo.svg"
WIDTH = 86


def draw(manifest: Manifest) -> str:
    """The summary of a shard set as SVG."""
    console = Console(record=True, width=WIDTH, file=StringIO(), highlight=False)
    for table in shard_tables(manifest):
        console.print(table)
    svg = console.export_svg(title="make demo", unique_id="demo")
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts from a server


def main() -> None:
    """Writes the picture of the shard set named on the command line."""
    manifest = Path(sys.argv[1]) / "manifest.json"
    PICTURE.write_text(draw(parse(manifest.read_bytes(), str(manifest), SHARD_SET)), "utf-8")


if __name__ == "__main__":
    main()
