"""Names on the Hugging Face hub: what is one, what is fetched, and what is said if it cannot be."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub import FakeHub, client_of, served
from huggingface_hub import constants, hf_hub_download

from exactcpt.schemas.errors import ExactcptError, UsageError
from exactcpt.schemas.hub import (
    TOKENIZER_FILES,
    HubName,
    fetch,
    hub_name,
    local_tokenizer,
    origin_of,
)
from exactcpt.training.models.named import model_folder

NOBODY = "http://127.0.0.1:9"
"""Where nothing listens."""
FILES = {
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"bos_token": null}',
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle",
    "modeling.py": b"code",
    "sub/tokenizer.json": b"{ }",
}


@pytest.fixture
def to_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sends the hub's client to a server, with a cache of its own."""
    return lambda url: client_of(url, tmp_path / "cache", monkeypatch)


@pytest.fixture
def hub(to_hub: Callable[[str], None]) -> Iterator[FakeHub]:
    with served(FakeHub()) as found:
        to_hub(found.url)
        yield found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Qwen/Qwen2.5-0.5B", ("Qwen/Qwen2.5-0.5B", None)),
        ("a/b@v1.0", ("a/b", "v1.0")),
        ("a/b@refs/pr/1", ("a/b", "refs/pr/1")),
        ("a/b@" + "0" * 40, ("a/b", "0" * 40)),
        ("gpt2", None),
        ("a/b/c", None),
        ("./a/b", None),
        ("./a", None),
        ("../a", None),
        ("/a", None),
        ("~/a", None),
        ("a/", None),
        ("a/b/", None),
        ("a/tokenizer.json", None),
        ("s3://a", None),
        ("a//b", None),
        ("a/b@", None),
        ("a/b@x@y", None),
        ("a/b@..", None),
        ("a/b@../../x", None),
        ("a/b@x/../../../y", None),
        ("a/b@/etc/x", None),
        ("a/b c", None),
        ("a/b\n", None),
        ("", None),
    ],
)
def test_what_is_a_name(text: str, name: tuple[str, str | None] | None):
    assert hub_name(text) == (name and HubName(*name))


def test_a_path_that_exists_is_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a/b", "a/c@main"):
        assert hub_name(path) is not None
        Path(path).mkdir(parents=True)
        assert hub_name(path) is None
        assert local_tokenizer(path) == path


def test_only_the_files_that_are_read_are_fetched(hub: FakeHub):
    commit = hub.commit("a/b", FILES)
    folder = fetch(HubName("a/b", None), TOKENIZER_FILES)
    assert sorted(hub.asked) == ["a/b/tokenizer.json", "a/b/tokenizer_config.json"]
    assert {path.name for path in folder.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    assert origin_of(folder) == origin_of(folder / "tokenizer.json") == f"a/b@{commit}"


def test_revisions(hub: FakeHub):
    old = hub.commit("a/b", {"tokenizer.json": b"old"})
    new = hub.commit("a/b", {"tokenizer.json": b"new"})
    dev = hub.commit("a/b", {"tokenizer.json": b"dev"}, branch="dev")
    for revision, commit in ((None, new), ("main", new), ("dev", dev), (old, old)):
        folder = fetch(HubName("a/b", revision), TOKENIZER_FILES)
        assert folder.name == commit
        assert (folder / "tokenizer.json").read_bytes() == hub.commits["a/b"][commit][
            "tokenizer.json"
        ]


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_the_cache_is_read(offline, to_hub, monkeypatch):
    with served(FakeHub()) as hub:
        to_hub(hub.url)
        hub.commit("a/b", FILES)
        folder = local_tokenizer("a/b")
    to_hub(NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    assert local_tokenizer("a/b") == folder
    assert local_tokenizer(f"a/b@{Path(folder).name}") == folder
    with pytest.raises(ExactcptError, match="has only a part of a/b") as caught:
        fetch(HubName("a/b", None), ["*.safetensors"])
    assert caught.value.where == folder
    with pytest.raises(ExactcptError, match="there is no such file or folder: a/c") as caught:
        local_tokenizer("a/c")
    why = "HF_HUB_OFFLINE is set" if offline else "it cannot be reached"
    assert why in caught.value.found
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("offline", [True, False])
def test_a_cache_that_another_program_has_filled_in_part(offline, to_hub, monkeypatch):
    """transformers fetches file by file, and leaves no list of the repository's files."""
    with served(FakeHub()) as hub:
        to_hub(hub.url)
        hub.commit("a/b", FILES)
        hf_hub_download("a/b", "tokenizer_config.json")
    to_hub(NOBODY)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ExactcptError, match="has only a part of a/b") as caught:
        local_tokenizer("a/b")
    assert not isinstance(caught.value, UsageError)
    assert "a/b (tokenizer_config.json), and the rest has to come" in caught.value.found
    why = "HF_HUB_OFFLINE is set" if offline else "it cannot be reached"
    assert why in caught.value.found
    with pytest.raises(ExactcptError, match="has only a part of a/b"):
        model_folder("a/b")


def test_what_the_hub_does_not_have(hub: FakeHub):
    hub.commit("a/b", {"vocab.json": b"{}"})
    hub.commit("a/gated", FILES)
    hub.gated.add("a/gated")
    for name, says, fix in (
        (
            "a/c",
            "there is no such file or folder, and no such repository on the hub: a/c",
            "log in",
        ),
        ("a/b@none", "the repository a/b has no revision 'none'", None),
        ("a/b", "the repository a/b has no tokenizer.json", "from_pretrained('a/b')"),
        ("a/gated", "may be read only by those who accept its conditions", "hf auth login"),
        ("a/b..c", "there is no such file or folder: a/b..c", None),
    ):
        with pytest.raises(UsageError) as caught:
            local_tokenizer(name)
        assert says in caught.value.found
        assert fix is None or fix in str(caught.value.fix)


def test_a_full_disk_is_an_error_of_the_disk(hub: FakeHub, tmp_path: Path):
    hub.commit("a/b", FILES)
    (tmp_path / "cache").write_bytes(b"not a folder")
    with pytest.raises(OSError, match="cache"):
        local_tokenizer("a/b")


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (f"/c/models--a--b/snapshots/{'0' * 40}", f"a/b@{'0' * 40}"),
        (f"/c/models--a--b--c/snapshots/{'0' * 40}/tokenizer.json", f"a/b--c@{'0' * 40}"),
        ("/c/models--a--b/snapshots/main", None),
        (f"/c/datasets--a--b/snapshots/{'0' * 40}", None),
        ("models/qwen", None),
    ],
)
def test_where_a_file_in_the_cache_comes_from(path: str, origin: str | None):
    assert origin_of(path) == origin
