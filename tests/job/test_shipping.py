"""Values that go to the workers through files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.attempt import OverError, attempt_at
from exactcpt.pipeline.job.shipping import Item, ship
from exactcpt.schemas.errors import FormatError

values = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=values)
def test_a_value_arrives_as_it_was(value, tmp_path_factory):
    folder = Folder(f"memory:/{tmp_path_factory.getbasetemp()}/shipped")
    with attempt_at(folder, engine=None) as attempt:
        assert ship(value, attempt).value == value
    assert folder.names() == []


def test_one_of_many(tmp_path: Path):
    with attempt_at(Folder(str(tmp_path)), engine=None) as attempt:
        shipped = ship(["a", "b"], attempt)
        assert [Item(shipped, i).value for i in range(2)] == ["a", "b"]


def test_a_changed_file_is_not_loaded(tmp_path: Path):
    folder = Folder(str(tmp_path))
    with attempt_at(folder, engine=None) as attempt:
        shipped = ship("mine", attempt)
        folder.write(shipped.name, folder.read(ship("a stranger's", attempt).name))
        with pytest.raises(FormatError, match="has changed while it runs"):
            _ = shipped.value


def test_a_file_goes_with_its_attempt(tmp_path: Path):
    with attempt_at(Folder(str(tmp_path)), engine=None) as attempt:
        shipped = ship("value", attempt)
    with pytest.raises(OverError):
        _ = shipped.value
