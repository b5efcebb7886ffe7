import pytest

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
