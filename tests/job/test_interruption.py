import signal
import subprocess
import sys

import pytest

LOST = """
import os, signal, sys, time
from exactcpt.pipeline.job.interruption import end_on_signals, raise_if_interrupted

end_on_signals()
raise_if_interrupted()

class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        time.sleep(0.01)

del_me = Destroyed()
del del_me
print("went on")
raise_if_interrupted()
print("not interrupted")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interruption_that_python_loses_is_found_by_who_asks(name):
    done = subprocess.run(
        [sys.executable, "-c", LOST, name], capture_output=True, text=True, check=False
    )
    assert done.stdout == "went on\n"
    assert "Exception ignored in" in done.stderr and done.stderr.endswith("KeyboardInterrupt\n")
    assert done.returncode != 0


AT_EXIT = """
import atexit, os, signal, sys, time
from exactcpt.pipeline.job import interruption

interruption.end_on_signals()
interruption.stop_interrupting()
atexit.register(lambda: (os.kill(os.getpid(), getattr(signal, sys.argv[1])), time.sleep(9)))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_at_the_exit_prints_no_traceback(name):
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-getattr(signal, name), "")


def test_whoever_waits_for_a_graph_asks(monkeypatch, tmp_path):
    import threading

    from exactcpt.pipeline.beam import runner
    from exactcpt.pipeline.files.storage import Folder
    from exactcpt.pipeline.job import interruption

    ended = threading.Event()
    lost = threading.Event()
    lost.set()
    monkeypatch.setattr(interruption, "_received", lost)
    with pytest.raises(KeyboardInterrupt):
        runner.run(
            lambda *_: ended.wait(10), runner.RunSettings(), Folder(str(tmp_path)), ended.set
        )
