"""Errors of engines as errors for a person: the cause out of a long trace, and what to do."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ...schemas.errors import ExactcptError
from ..job.attempt import OVER

__all__ = ["explain", "explain_start", "option"]

AGAIN = "run the same command again to continue where it stopped; --debug shows the traceback"

TRACEBACK = "Traceback (most recent call last):"
LOST_WORKER = "worker disconnected"
"""What Prism says, which does not give a lost worker's units to another one."""


def option(beam_args: Sequence[str], name: str) -> str | None:
    """The value of one of Beam's options, given as --name=value or as two words; the last one."""
    words = [word for each in beam_args for word in each.split("=", 1)]
    found = [value for word, value in pairwise(words) if word == f"--{name}"]
    return found[-1] if found else None


def explain(error: BaseException, runner: str, beam_args: Sequence[str]) -> ExactcptError:
    """The error that says why a graph failed.

    Args:
        error: what the runner raised.
        runner: its name.
        beam_args: Beam's options.
    """
    if _is_silence(error):
        endpoint = option(beam_args, "job_endpoint")
        return ExactcptError(
            "no job server answers",
            where=endpoint,
            expected=f"a job server of Beam's for {runner}",
            fix="start it, or correct --job_endpoint; then run the same command again",
        )
    cause = _cause(error)
    if OVER in cause:
        return ExactcptError(
            "the job is over before its work is done: another one has begun in its folder, or what "
            "it keeps there in .job was removed",
            fix="look for the other job; if there is none, run the same command again",
        )
    if LOST_WORKER in cause:
        return ExactcptError(
            f"a worker of {runner} has died, or it cannot be reached: {cause}",
            fix="see whether its machine has enough memory; then run the same command again to "
            "continue where it stopped",
        )
    return ExactcptError(f"the pipeline failed: {cause}", fix=AGAIN)


def explain_start(error: BaseException, runner: str, beam_args: Sequence[str]) -> ExactcptError:
    """The error that says why a graph was not even started; see `explain`."""
    found = explain(error, runner, beam_args)
    if found.fix == AGAIN:
        found = ExactcptError(
            f"{runner} did not start the pipeline: {_cause(error)}",
            fix="give it the file or the address that it lacks, after --; or use a job server that "
            "runs already: --runner PortableRunner -- --job_endpoint=HOST:PORT",
        )
    return found


def _is_silence(error: BaseException) -> bool:
    """Whether a call over gRPC has found nobody."""
    import grpc

    code: Any = getattr(error, "code", None)
    return isinstance(error, grpc.FutureTimeoutError) or (
        isinstance(error, grpc.RpcError)
        and callable(code)
        and code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    )


def _cause(error: BaseException) -> str:
    """The line that tells the cause: Java's last "Caused by", or the last line of text.

    Where Java tells of a traceback of Python's, it is what follows the frames: the first line that
    is not indented.
    """
    details: Any = getattr(error, "details", None)
    text = str((callable(details) and details()) or error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    frames = ("at ", "... ", "Suppressed: ", ">")
    told = [line for line in lines if not line.startswith(frames)]
    by = [line.removeprefix("Caused by: ") for line in told if line.startswith("Caused by: ")]
    cause = (by or told or [type(error).__name__])[-1]
    if cause.endswith(TRACEBACK):
        after = text.rpartition(TRACEBACK)[2].splitlines()
        cause = next((line for line in after if line and not line[0].isspace()), cause)
    return cause
