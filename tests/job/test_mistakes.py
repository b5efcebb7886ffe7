import time

import pytest

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.mistakes import Mistakes
from exactcpt.schemas.errors import FormatError


def error(n: int) -> FormatError:
    return FormatError(f"file {n} is damaged", where=f"file {n}", expected="sound", fix="mend it")


def test_the_first_by_order_is_told_whichever_was_found_first(tmp_path):
    mistakes = Mistakes(str(tmp_path))
    mistakes.raise_first()
    for place in (10, 9, 11):
        mistakes.note(place, error(place))
    with pytest.raises(FormatError) as caught:
        mistakes.raise_first()
    assert str(caught.value) == str(error(9))
    assert [mistakes.before(place) for place in (8, 9, 10)] == [False, False, True]
    mistakes.forget()
    mistakes.raise_first()
    assert not mistakes.before(100)
    assert not (tmp_path / ".job/wrong").exists()


def test_a_process_asks_a_server_only_now_and_then(tmp_path, monkeypatch):
    listed = []
    names = Folder.names
    monkeypatch.setattr(
        Folder, "names", lambda self, below="": listed.append(below) or names(self, below)
    )
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for url, asked in ((f"memory:/{tmp_path}", 2), (str(tmp_path), 9)):
        now = 1000.0
        mistakes = Mistakes(url)
        equal = [Mistakes(url, mistakes.name) for _ in range(3)]  # units get copies
        listed.clear()
        assert [one.before(7) for one in equal] == [False] * 3
        mistakes.note(5, error(5))
        # Nothing but work is lost: an object store is not asked yet.
        assert [one.before(7) for one in equal] == [asked == 9] * 3
        now += 60
        assert [one.before(7) for one in equal] == [True] * 3
        assert len(listed) == asked
        with pytest.raises(FormatError, match="file 5"):
            mistakes.raise_first()


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_worker_that_outlives_a_run_knows_nothing_of_the_next(tmp_path, kind):
    url = str(tmp_path) if kind == "local" else f"memory:/{tmp_path}"
    first = Mistakes(url)
    first.note(5, error(5))
    assert first.before(7)
    later = Mistakes(url)
    assert not later.before(7)
    later.raise_first()
    later.forget()
    assert Folder(url).names(".job") == []
