"""Draws the pictures of the README: what `make demo` prints, and the report of its shards.

python tests/helpers/picture.py DEMO_SHARDS

It writes tests/data/demo.svg and, with Chromium, tests/data/report.png.
"""

import re
import shutil
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console

from exactcpt.pipeline.cli import run_command
from exactcpt.pipeline.commands.summary import shard_tables
from exactcpt.schemas.manifest import SHARD_SET, Manifest, parse

DATA = Path(__file__).parents[1] / "data"
PICTURE = DATA / "demo.svg"
REPORT = DATA / "report.png"
WIDTH = 86


def draw(manifest: Manifest) -> str:
    """The summary of a shard set as SVG."""
    console = Console(record=True, width=WIDTH, file=StringIO(), highlight=False)
    for table in shard_tables(manifest):
        console.print(table)
    svg = console.export_svg(title="make demo", unique_id="demo")
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts from a server


def photograph(shards: Path, picture: Path) -> None:
    """The top of a shard set's report, as a browser shows it."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "report.html"
        if run_command(["inspect", str(shards), "--html", str(page)]):
            raise SystemExit(1)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport={"width": 1100, "height": 880}, color_scheme="light")
        tab.goto(page.as_uri())
        tab.locator("svg").first.wait_for()
        tab.screenshot(path=picture)
        browser.close()


def main() -> None:
    """Draws the shard set named on the command line."""
    shards = Path(sys.argv[1])
    manifest = shards / "manifest.json"
    PICTURE.write_text(draw(parse(manifest.read_bytes(), str(manifest), SHARD_SET)), "utf-8")
    if shutil.which("chromium"):
        photograph(shards, REPORT)


if __name__ == "__main__":
    main()
