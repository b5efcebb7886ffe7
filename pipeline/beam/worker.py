"""The program of a worker process: Beam's SDK worker, which ends when the job's process does.

python -m exactcpt.pipeline.beam.worker [--debug]
"""

import logging
import os
import sys
import threading
import time

from ...schemas.importing import keep_pandas_out_of_pyarrow
from .loading import load_beam

__all__ = ["PARENT", "main"]

PARENT = "EXACTCPT_RUNNER_PID"
"""The environment variable with the process id of the job."""


def main() -> None:
    """Runs the worker until the runner tells it to stop or is gone."""
    if "--debug" not in sys.argv:
        logging.getLogger().addHandler(logging.NullHandler())  # else Beam logs to stderr
    parent = int(os.environ[PARENT])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    keep_pandas_out_of_pyarrow()
    load_beam()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone: the worker's connections might wait forever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
