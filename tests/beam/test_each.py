"""Units without a graph of their own: what they find wrong, by the order of their values."""

import pytest

from exactcpt.pipeline.beam.each import Job, _Noting, do_each
from exactcpt.pipeline.beam.runner import RunSettings
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.mistakes import Mistakes
from exactcpt.schemas.errors import ExactcptError, FormatError


def touch(value: int, folder: str) -> dict[str, int]:
    """Value 3 is damaged, and with value 7 something else is wrong."""
    if value == 3:
        raise FormatError("damaged")
    if value == 7:
        raise ExactcptError("the disk is full")
    Folder(folder).write(f"{value}", b"")
    return {"bytes": 1}


def job(folder: Folder, *values: int) -> Job:
    return Job(title="Touch", unit=touch, values=values, shared=folder.url, work=lambda _: 1)


PLACES = {
    "threads": RunSettings(workers=2),
    "a graph": RunSettings(
        runner="PortableRunner",
        beam_args=("--job_endpoint=embed", "--environment_type=LOOPBACK"),
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_each_value_once(tmp_path, place):
    folder = Folder(str(tmp_path / "out"))
    do_each(job(folder, 1, 2, 4), PLACES[place], folder, lambda: None)
    assert [name for name in folder.names() if "/" not in name] == ["1", "2", "4"]
    with pytest.raises(FormatError, match="damaged"):
        do_each(job(folder, 3, 5), PLACES[place], folder, lambda: None)
    assert not (tmp_path / "out/.job/wrong").exists()
    with pytest.raises(ExactcptError, match="the disk is full"):
        do_each(job(folder, 7), PLACES[place], folder, lambda: None)
    do_each(job(folder, 5), PLACES[place], folder, lambda: None)  # what was wrong is forgotten
    assert folder.exists("5")


def test_units_after_a_mistake_do_nothing_and_those_before_it_go_on(tmp_path):
    mistakes = Mistakes(str(tmp_path))
    noting = _Noting(touch, mistakes)
    noting((1, 3), str(tmp_path))
    noting((0, 4), str(tmp_path))
    noting((2, 5), str(tmp_path))
    assert Folder(str(tmp_path)).exists("4")
    assert not Folder(str(tmp_path)).exists("5")
