"""Beam's metrics: what an engine's own page shows of a stage while it works.

They count what a run does, so that a continued job shows what was left to do. The files of the job
count all of it.
"""

__all__ = ["NAMESPACE", "lasted", "note_done"]

NAMESPACE = "exactcpt"


def note_done(**amounts: int) -> None:
    """Adds to counters of the stage that this thread works for, if there is one.

    Args:
        amounts: what has been done, by the counter's name.
    """
    from apache_beam.metrics.metric import Metrics

    for name, amount in amounts.items():
        Metrics.counter(NAMESPACE, name).inc(amount)


def lasted(seconds: float) -> None:
    """Notes how long a unit took, in whole milliseconds: Beam's distributions are of integers."""
    from apache_beam.metrics.metric import Metrics

    Metrics.distribution(NAMESPACE, "milliseconds").update(round(1000 * seconds))
