"""What the studies of the recipes found: pictures and tables of the pages are of their figures."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import study_picture

REPOSITORY = Path(__file__).parents[3]
AGAIN = "python tests/helpers/study_picture.py STUDY draws it anew"
FIGURES = {
    name: json.loads(drawn.figures.read_text("utf-8"))
    for name, drawn in study_picture.STUDIES.items()
}
RECALL, NATURAL = (
    {str(row["figure"]): row for row in FIGURES[name]["rows"]}
    for name in ("tiny-recall", "natural-text")
)
of_each_study = pytest.mark.parametrize("name", FIGURES)


def shapes(svg: str) -> str:
    """Without the names that are counted up within a process."""
    return re.sub(r"gradient_\d+|clip\d+", "", svg)


@of_each_study
def test_the_picture_is_that_of_the_figures(name):
    committed = study_picture.STUDIES[name].picture.read_text("utf-8")
    assert shapes(committed) == shapes(study_picture.draw(FIGURES[name])), AGAIN


@of_each_study
def test_the_figures_are_of_the_recipe(name):
    recipe = REPOSITORY / "training" / "recipes" / f"{name}.toml"
    values = tomllib.loads(recipe.read_text("utf-8"))
    arms = {arm["name"] for arm in values["arm"]} - {"uniform"}
    found = FIGURES[name]
    assert all({*row["arms"]} == arms for row in found["rows"])
    assert found["pairs"] == values["study"]["seeds"] * values["base"]["wanted"]
    assert found["study"] == values["study"]["name"]


def interval(arm: str, figure: str, rows: dict[str, Any] = RECALL) -> str:
    delta, half = rows[figure]["arms"][arm]
    return f"{round(delta, 3) + 0.0:+.3f} ± {half:.3f}"


def test_the_table_of_the_page_has_these_figures():
    page = (REPOSITORY / "docs" / "study.md").read_text("utf-8")
    heading, *_ = re.findall(r"^\| arm \| (far.*) \|$", page, re.MULTILINE)
    columns = heading.split(" | ")
    for arm in RECALL["far"]["arms"]:
        (cells,) = re.findall(rf"^\| `{arm}` \| (.*±.*) \|$", page, re.MULTILINE)
        assert cells.split(" | ") == [interval(arm, column) for column in columns], arm
    (cells,) = re.findall(r"^\| `uniform` \| (.*) \|$", page, re.MULTILINE)
    assert cells.split(" | ") == [f"{RECALL[column]['uniform']:.3f}" for column in columns]


def test_the_table_of_natural_text_has_these_figures():
    page = (REPOSITORY / "docs" / "study.md").read_text("utf-8")
    (heading,) = re.findall(r"^\| distance \| `uniform` \| (.*) \|$", page, re.MULTILINE)
    arms = [cell.strip("`") for cell in heading.split(" | ")]
    for figure, row in NATURAL.items():
        shown = f"{int(figure):,}" if figure.isdecimal() else figure
        (cells,) = re.findall(rf"^\| {shown} \| (.*) \|$", page, re.MULTILINE)
        expected = [f"{row['uniform']:.3f}", *(interval(arm, figure, NATURAL) for arm in arms)]
        assert cells.split(" | ") == expected, figure


@pytest.mark.parametrize("page", ["README.md", "docs/study.md"])
def test_the_text_names_these_figures(page):
    text = " ".join((REPOSITORY / page).read_text("utf-8").split())
    for arm in ("exact", "dose-1") if page == "README.md" else ("exact", "gradnorm"):
        assert interval(arm, "far") in text
