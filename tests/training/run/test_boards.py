"""What trackers are told: figures by name and step, under a name that a continued run keeps."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from exactcpt.schemas.errors import ExactcptError, UsageError
from exactcpt.schemas.extras import install_line
from exactcpt.training.run.boards import open_boards
from exactcpt.training.run.log import RunLog


class Tracker:
    """A library in the place of wandb or trackio."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **options: Any) -> Any:
        self.begun.append(options)
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, figures: dict[str, float], *, step: int) -> None:
        self.logged.append((step, figures))

    def finish(self) -> None:
        self.finished += 1


def opened(run: Any, name: str, step: int = 0) -> RunLog:
    boards = open_boards(run, step=step, tensorboard=False, tracker=name, settings={"seed": 3})
    return RunLog(run, step=step, boards=boards)


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_gets_the_figures(tmp_path, monkeypatch, name):
    tracker = Tracker()
    monkeypatch.setitem(sys.modules, name, tracker)
    log = opened(tmp_path, name)
    log.write("start", {"step": 0, "settings": {"seed": 3}})
    log.write("step", {"step": 1, "loss": 2.5, "bucket_loss": [1.0, None, 2.0], "digest": "d"})
    log.write("eval", {"step": 1, "name": "books", "loss": 2.0})
    log.close()
    assert tracker.logged == [
        (1, {"step/loss": 2.5, "step/bucket_loss/0": 1.0, "step/bucket_loss/2": 2.0}),
        (1, {"eval/books/loss": 2.0}),
    ]
    assert tracker.finished == 1
    (begun,) = tracker.begun
    assert begun["project"] == "exactcpt" and begun["name"] == tmp_path.name
    assert begun["config"] == {"seed": 3}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_that_is_continued_goes_on_there(tmp_path, monkeypatch, name):
    tracker = Tracker()
    monkeypatch.setitem(sys.modules, name, tracker)
    opened(tmp_path, name).close()
    monkeypatch.chdir(tmp_path.parent)
    opened(type(tmp_path)(tmp_path.name), name, step=1).close()
    first, second = tracker.begun
    assert first == second
    assert first["resume"] == "allow"
    assert ("id" in first) == (name == "wandb")


@pytest.mark.parametrize(
    ("name", "says"), [("wandb", "Weights & Biases is not"), ("trackio", "Trackio is not")]
)
def test_a_tracker_that_is_not_installed(tmp_path, monkeypatch, name, says):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=says) as caught:
        opened(tmp_path, name)
    assert caught.value.fix == install_line(name)


def test_a_tracker_that_cannot_begin(tmp_path, monkeypatch):
    def init(**_: Any) -> None:
        raise RuntimeError("no API key")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    with pytest.raises(ExactcptError, match="cannot begin: no API key") as caught:
        opened(tmp_path, "wandb")
    assert "--log-to wandb" in str(caught.value.fix)
