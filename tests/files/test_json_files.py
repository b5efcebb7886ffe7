from pathlib import Path

import pytest

from exactcpt.pipeline.files.json_files import REPLACE, read_json, write_json
from exactcpt.pipeline.files.storage import Folder
from exactcpt.schemas.errors import FormatError


def test_an_object_is_read(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a.json", b'{"a": 1, "b": {"a": [2]}}')
    assert read_json(folder, "a.json", ["a"]) == {"a": 1, "b": {"a": [2]}}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "it is not JSON (Expecting value"),
        (b"\xff", "it is not JSON (it is not UTF-8 at byte 0"),
        (b"[1]", "it is not a JSON object"),
        (b"null", "it is not a JSON object"),
        (b'{"a": 1, "a": 2}', "it is not JSON (an object has the key 'a' twice)"),
        (b'{"a": {"x": 1, "x": 1}}', "it is not JSON (an object has the key 'x' twice)"),
        (b'{"b": 1}', "it has no 'a'"),
        (b'{"a":' * 200_000, "it is not JSON (it is nested in more than 100 levels"),
    ],
)
def test_a_damaged_file_is_a_plain_error(tmp_path: Path, data: bytes, what: str) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a.json", data)
    with pytest.raises(FormatError) as error:
        read_json(folder, "a.json", ["a"])
    assert error.value.found.startswith(f"a file that a job keeps is damaged: {what}")
    assert error.value.where == str(tmp_path / "a.json")
    assert error.value.fix == (
        "remove that file and run the same command again: it makes the file anew"
    )
    with pytest.raises(FormatError) as error:
        read_json(folder, "a.json", ["a"], REPLACE)
    assert error.value.fix == REPLACE


def test_a_changed_digit_is_noticed(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write_json(folder, "a.json", {"a": 1, "b": {"c": 22}})
    assert read_json(folder, "a.json", ["a"]) == {"a": 1, "b": {"c": 22}}
    folder.write("a.json", folder.read("a.json").replace(b"22", b"23"))
    with pytest.raises(FormatError, match="it was altered"):
        read_json(folder, "a.json", ["a"])
