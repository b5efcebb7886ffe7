"""An inspection as tables for a terminal.

    histogram.py       one combination of settings in full
    combinations.py    one line per combination of settings
    comparison.py      two sets side by side
    sources.py         the sources of one combination
    words.py           settings and figures in words
    printer.py         tables and bars in the width and characters of the terminal

The tables show what `--json` has. The tail, which is the buckets of effective context that begin at
tau or later and have targets, is marked with `*`, so that nobody needs colours.
"""

from rich.console import Console

from ..json_types import InspectionJson, SampleJson, SubjectJson
from .combinations import print_combinations
from .comparison import print_comparison
from .histogram import print_histogram
from .printer import Printer
from .words import documents_and_tokens

__all__ = ["print_inspection"]

MUCH_MORE = 1.5
WHOLE_DOCUMENTS = "documents are tokenized whole, and at least one of each source"


def print_inspection(inspection: InspectionJson, console: Console, *, by_source: bool) -> None:
    """Prints an inspection.

    Args:
        inspection: what `to_json` returns.
        console: the console to print on, in its width and encoding.
        by_source: whether the sources are shown, too.
    """
    subjects = inspection["subjects"]
    printer = Printer(console)
    for subject in subjects:
        printer.line(_heading(subject))
        if "sample" in subject:
            printer.line(_sample_line(subject["sample"]))
    match [len(subject["rows"]) for subject in subjects]:
        case [1]:
            print_histogram(printer, subjects[0]["rows"][0], by_source=by_source)
        case [1, 1]:
            print_comparison(printer, *subjects, by_source=by_source)
        case _:
            print_combinations(printer, subjects, by_source=by_source)


def _heading(subject: SubjectJson) -> str:
    about = "about " if "sample" in subject else ""
    return (
        f"{subject['path']}: {subject['kind']}, {about}"
        f"{documents_and_tokens(subject['documents'], subject['tokens'])}, "
        f"longest document {subject['longest_document']:,}"
    )


def _sample_line(sample: SampleJson) -> str:
    asked, read, tokenized = sample["asked"], sample["read"], sample["tokenized"]
    why = "" if tokenized < MUCH_MORE * asked else f" ({WHOLE_DOCUMENTS})"
    return (
        f"estimated from {documents_and_tokens(sample['documents'], sample['tokens'])}: "
        f"{asked:.1%} of the text was asked for, {read:.1%} was read and {tokenized:.1%} was "
        f"tokenized{why}; +- is half the width of a 95% interval"
    )
