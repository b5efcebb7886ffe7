"""What the studies of the recipes found: pictures and tables of the pages are of their figures."""

import json
import re
import tomllib
from pathlib import Path

import pytest
import study_picture

REPOSITORY = Path(__file__).parents[3]
AGAIN = "python tests/helpers/study_picture.py STUDY draws it anew"
FIGURES = {
    name: json.loads(drawn.figures.read_text("utf-8"))
    for name, drawn in study_picture.STUDIES.items()
}
RECALL = {str(row["figure"]): row for row in FIGURES["tiny-recall"]["rows"]}
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


def interval(arm: str, figure: str) -> str:
    delta, half = RECALL[figure]["arms"][arm]
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


@pytest.mark.parametrize(
    ("first", "rows", "digits"), [("distance", "rows", 4), ("context", "losses", 3)]
)
def test_the_tables_of_natural_text_have_these_figures(first, rows, digits):
    page = (REPOSITORY / "docs" / "study.md").read_text("utf-8")
    (heading,) = re.findall(rf"^\| {first} \| `uniform` \| (.*) \|$", page, re.MULTILINE)
    arms = [cell.strip("`") for cell in heading.split(" | ")]
    for row in FIGURES["natural-text"][rows]:
        figure = row["figure"] if isinstance(row["figure"], str) else f"{row['figure']:,}"
        (cells,) = re.findall(rf"^\| {figure} \| (.*) \|$", page, re.MULTILINE)
        found = [row["arms"][arm] for arm in arms]
        shown = [f"{d:+.{more}f} ± {half:.{more}f}" for d, half in found for more in [digits + 1]]
        assert cells.split(" | ") == [f"{row['uniform']:.{digits}f}", *shown], figure


@pytest.mark.parametrize("page", ["README.md", "docs/study.md"])
def test_the_text_names_these_figures(page):
    text = " ".join((REPOSITORY / page).read_text("utf-8").split())
    for arm in ("exact", "dose-1") if page == "README.md" else ("exact", "gradnorm"):
        assert interval(arm, "far") in text
