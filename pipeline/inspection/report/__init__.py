"""An inspection as a page for a browser, and as a picture.

The page is one file that asks the network for nothing: the inspection, the charts' specifications,
Vega and our own script and style are in it, and its policy forbids everything else. The script
computes the weights anew when a slider moves; the tests compare it with core/exact.py.

    charts.py                        what is drawn
    page.html, page.css, page.js     the page, its style, and what it does
    weights.js                       EXACT's formula, for the page
    third-party.txt                  licences of the software in the page
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from ....schemas.settings import flag_of
from ...core.parameters import PARAMETERS
from ...pack.settings import Settings
from ..json_types import BucketJson, InspectionJson, RowJson, SubjectJson
from . import charts

__all__ = ["html", "svg"]

PLACING = ("window", "packing")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def html(inspection: InspectionJson) -> str:
    """The report as a page.

    Args:
        inspection: what `exactcpt inspect --json` prints.

    Raises:
        ValueError: it has a number that is not finite.
    """
    data = {
        "inspection": inspection,
        "labels": [row_labels(subject["rows"]) for subject in inspection["subjects"]],
        "commands": [
            [unweighted_command(subject, row) for row in subject["rows"]]
            for subject in inspection["subjects"]
        ],
        "charts": [_charts(subject) for subject in inspection["subjects"]],
    }
    library = _library()
    script = _resource("weights.js") + _resource("page.js")
    return _filled(
        _resource("page.html"),
        {
            "policy": _policy(library, script),
            "style": _resource("page.css"),
            "data": _json_in_html(data),
            "licences": _resource("third-party.txt"),
            "library": library,
            "script": script,
        },
    )


def svg(inspection: InspectionJson) -> str:
    """The charts of the first row of each subject, and its settings compared, as an SVG file.

    Args:
        inspection: what `exactcpt inspect --json` prints.
    """
    import vl_convert

    subjects = []
    for subject in inspection["subjects"]:
        rows = subject["rows"]
        title = f"{subject['path']}: {row_labels(rows)[0]}"
        if "sample" in subject:
            title += f", estimated from a sample of {subject['sample']['fraction']:.1%}"
        subjects.append((title, rows[0], reaches(rows)))
    names = "; ".join(title for title, _, _ in subjects)
    drawn = vl_convert.vegalite_to_svg(_xml_text(charts.picture(subjects)), allowed_base_urls=[])
    title = escape(_xml_text(f"Loss weight by effective context. {names}"))
    return drawn.replace(">", f"><title>{title}</title>", 1)


def row_labels(rows: Sequence[RowJson]) -> list[str]:
    """Names each row by its window and packing, and the settings that tell such rows apart."""
    settings = [row["settings"] for row in rows]
    names = [*PLACING, *_differing(settings)]
    return [_label(each, names) for each in settings]


def unweighted_command(subject: SubjectJson, row: RowJson) -> str:
    """The command that makes this row, without the flags for its weights and its output."""
    if subject["kind"] == "shard set":
        return shlex.join(["exactcpt", "reweigh", subject["path"]])
    words = shlex.split(row["command"])
    flags = {flag_of(name) for name in (*PARAMETERS, "out")}
    values = {at + 1 for at, word in enumerate(words) if word in flags}
    return shlex.join(
        word for at, word in enumerate(words) if word not in flags and at not in values
    )


def reaches(rows: Sequence[RowJson]) -> list[dict[str, Any]]:
    """For each plan and bucket, the share of targets in this bucket or a later one.

    Rows that differ in weights alone have one plan. For a single plan the result is empty.
    """
    settings = [_without_weighting(row["settings"]) for row in rows]
    others = ["window", *_differing(settings)]
    plans = {
        (_label(each, others), each["packing"]): row["buckets"]
        for each, row in zip(settings, rows, strict=True)
    }
    if len(plans) < 2:
        return []
    return [
        {"others": label, "packing": packing, "low": bucket["low"], "reach": reach}
        for (label, packing), buckets in plans.items()
        for bucket, reach in zip(buckets, _reach(buckets), strict=True)
    ]


def _charts(subject: SubjectJson) -> dict[str, Any]:
    drawn = {
        "exposure": charts.exposure(charts.BROWSER),
        "weights": charts.weights(charts.BROWSER),
        "sources": charts.sources(charts.BROWSER, len(subject["sources"])),
    }
    if reach := reaches(subject["rows"]):
        drawn["plans"] = charts.plans(charts.BROWSER, reach)
    return drawn


def _differing(settings: Sequence[Settings]) -> list[str]:
    """The names of settings that differ between rows of one window and packing."""
    first: dict[tuple[Any, ...], Settings] = {}
    differing: dict[str, None] = {}
    for each in settings:
        other = first.setdefault(tuple(each[name] for name in PLACING), each)
        differing.update({name: None for name in each if each[name] != other[name]})
    return list(differing)


def _without_weighting(settings: Settings) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in PARAMETERS}


def _reach(buckets: Sequence[BucketJson]) -> list[float]:
    counts = [bucket["targets"] for bucket in buckets]
    total = sum(counts)
    return [sum(counts[b:]) / total if total else 0.0 for b in range(len(counts))]


def _label(settings: Settings, names: Sequence[str]) -> str:
    return ", ".join(
        str(settings[name])
        if name == "packing"
        else f"{name.replace('_', ' ')} {_shown(settings[name])}"
        for name in names
    )


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case int() | float():
            return f"{value:,}"
        case Mapping():
            return " ".join(f"{name}={_shown(part)}" for name, part in value.items())
    return str(value)


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as a script that sets `window.vegaEmbed`."""
    import vl_convert  # 90 MB

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _resource(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """A policy that loads nothing and runs no script but these, not even one in an attribute."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in scripts)
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'"


def _json_in_html(data: object) -> str:
    """JSON that cannot end the element it is in."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _xml_text(value: Any) -> Any:
    """A value without the characters that XML forbids: a path may contain any."""
    match value:
        case str():
            return NOT_XML.sub("\ufffd", value)
        case list():
            return [_xml_text(each) for each in value]
        case dict():
            return {name: _xml_text(each) for name, each in value.items()}
    return value


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Replaces each `{{name}}` once; the text that is put in is not searched again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
