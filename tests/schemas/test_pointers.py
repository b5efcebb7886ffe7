from pathlib import Path

import pytest
from corpora import ANNEX, LFS

from exactcpt.schemas.errors import ExactcptError
from exactcpt.schemas.pointers import MAX_POINTER_BYTES, refuse_pointer, refuse_pointers


def test_a_pointer_of_git_lfs() -> None:
    with pytest.raises(ExactcptError) as caught:
        refuse_pointer(LFS, "in/a.jsonl")
    assert str(caught.value) == (
        "this is a Git LFS pointer: the content of the file has not been downloaded\n"
        "  where:    in/a.jsonl\n"
        "  fix:      run `git lfs pull` in the clone that has the file, or download it again"
    )


def test_a_pointer_of_git_annex() -> None:
    with pytest.raises(ExactcptError) as caught:
        refuse_pointer(ANNEX, "in/a.jsonl")
    assert str(caught.value) == (
        "this is a git-annex pointer: the content of the file is not in this clone\n"
        "  where:    in/a.jsonl\n"
        "  fix:      run `git annex get` for the file"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"version 1",
        b"About pointers:\n" + LFS,
        LFS.partition(b"\n")[0] + b" is how the specification begins.",
        b"The folder is /annex/objects/",
        b"/annex/objects/ is a folder of git-annex",
    ],
)
def test_a_text_about_pointers_is_none(content: bytes, tmp_path: Path) -> None:
    refuse_pointer(content, "a.txt")
    (tmp_path / "a.txt").write_bytes(content)
    refuse_pointers([tmp_path / "a.txt"])


def test_files(tmp_path: Path) -> None:
    large = tmp_path / "large.txt"
    large.write_bytes(LFS + b"x" * MAX_POINTER_BYTES)
    refuse_pointers([large, tmp_path, tmp_path / "nothing"])
    (tmp_path / "dead").symlink_to("nowhere")
    refuse_pointers([tmp_path / "dead"])
    (tmp_path / "annexed").symlink_to("../.git/annex/objects/x/y/SHA256E-s12--98ea.bin")
    with pytest.raises(ExactcptError, match="git-annex pointer"):
        refuse_pointers([tmp_path / "annexed"])
    (tmp_path / "small").write_bytes(LFS)
    with pytest.raises(ExactcptError, match="Git LFS pointer"):
        refuse_pointers([large, tmp_path / "small"])
