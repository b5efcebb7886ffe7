"""Jobs in the process of the tests begin faster: they are small, and there are hundreds of them.

A job that does not say how many workers it has gets one: pytest itself runs on all cores, and one
worker needs no gRPC. Beam remembers what it works out many times. Commands that run in a process of
their own are as users have them.
"""

import sys

from remembered import remember, remember_what_is_installed

__all__ = ["settle"]

INVOCATION = "exactcpt.pipeline.commands.invocation"
BEAM = "apache_beam.runners.portability.fn_api_runner.fn_runner"

_settled: set[str] = set()

remember_what_is_installed()


def settle() -> None:
    """Changes what has been imported by now. What nobody imports costs nothing."""
    for module, change in {INVOCATION: _one_worker, BEAM: remember}.items():
        if module in sys.modules and module not in _settled:
            _settled.add(module)
            change()


def _one_worker() -> None:
    sys.modules[INVOCATION].__dict__["usable_cores"] = lambda: 1
