"""What tiny-recall found: the picture and the tables of the pages are those of its figures."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import recall_picture

REPOSITORY = Path(__file__).parents[3]
AGAIN = "python tests/helpers/recall_picture.py STUDY draws it anew"
FIGURES = json.loads(recall_picture.FIGURES.read_text("utf-8"))
ROWS = {str(row["figure"]): row for row in FIGURES["rows"]}


def shapes(svg: str) -> str:
    """Without the names that are counted up within a process."""
    return re.sub(r"gradient_\d+|clip\d+", "", svg)


def test_the_picture_is_that_of_the_figures():
    committed = recall_picture.PICTURE.read_text("utf-8")
    assert shapes(committed) == shapes(recall_picture.draw(FIGURES)), AGAIN


def test_the_figures_are_of_the_recipe():
    recipe = REPOSITORY / "training" / "recipes" / "tiny-recall.toml"
    values = tomllib.loads(recipe.read_text("utf-8"))
    arms = {arm["name"] for arm in values["arm"]} - {"uniform"}
    assert all({*row["arms"]} == arms for row in FIGURES["rows"])
    assert FIGURES["pairs"] == values["study"]["seeds"] * values["base"]["wanted"]
    assert FIGURES["study"] == values["study"]["name"]


def interval(arm: str, figure: str) -> str:
    delta, half = ROWS[figure]["arms"][arm]
    return f"{round(delta, 3) + 0.0:+.3f} ± {half:.3f}"


def test_the_table_of_the_page_has_these_figures():
    page = (REPOSITORY / "docs" / "study.md").read_text("utf-8")
    heading, *_ = re.findall(r"^\| arm \| (far.*) \|$", page, re.MULTILINE)
    columns = heading.split(" | ")
    for arm in FIGURES["rows"][0]["arms"]:
        (cells,) = re.findall(rf"^\| `{arm}` \| (.*±.*) \|$", page, re.MULTILINE)
        assert cells.split(" | ") == [interval(arm, column) for column in columns], arm
    (cells,) = re.findall(r"^\| `uniform` \| (.*) \|$", page, re.MULTILINE)
    assert cells.split(" | ") == [f"{ROWS[column]['uniform']:.3f}" for column in columns]


@pytest.mark.parametrize("page", ["README.md", "docs/study.md"])
def test_the_text_names_these_figures(page):
    text = " ".join((REPOSITORY / page).read_text("utf-8").split())
    for arm in ("exact", "dose-1") if page == "README.md" else ("exact", "gradnorm"):
        assert interval(arm, "far") in text
