"""Imports Beam, which takes longer than anything else before the first token."""

import threading

from ...schemas.importing import import_to_stay, unseen

__all__ = ["load_beam", "load_beam_meanwhile"]

UNUSED = (
    "apache_beam.io.gcp.bigquery",
    "boto3",
    "bson",
    "google.cloud",
    "pandas",
    "pymongo",
)
"""What Beam does without, and imports for files, types and data bases that the graphs do not use.
Jobs on other runners may need it: Dataflow's workers read what Beam has put into a bucket."""


def load_beam(*, whole: bool = False) -> None:
    """Imports Beam and its embedded runner.

    Args:
        whole: with all that it can use.
    """
    with unseen(() if whole else UNUSED):
        import_to_stay("apache_beam.runners.portability.fn_api_runner.fn_runner")


def load_beam_meanwhile(*, whole: bool) -> None:
    """Imports Beam in the background, while the inputs are read: see `load_beam`."""
    threading.Thread(
        name="exactcpt-import", target=load_beam, kwargs={"whole": whole}, daemon=True
    ).start()
