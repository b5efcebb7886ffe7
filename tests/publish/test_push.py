"""The upload to the hub, at an address of this machine: what is sent, and what is said."""

import socket
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import harness
import pytest
from fake_hub import FakeHub
from harness import Outcome, done, run
from huggingface_hub import constants
from tiny import shard_set

WHOAMI, CREATE = "GET /api/whoami-v2", "POST /api/repos/create"
COMMIT = "POST /api/datasets/ann/tiny/commit"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shard_set(tmp_path_factory.mktemp("push") / "shards")


@pytest.fixture(scope="module")
def out(shards: Path) -> Path:
    done("publish", shards, "--out", shards.with_name("out"))
    return shards.with_name("out")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub.serving() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        # Large files go to a service of its own, by a library that is not ours.
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
        yield hub


@pytest.fixture
def push(shards: Path, out: Path):
    def do(name: str = "tiny") -> Outcome:
        return run("publish", shards, "--out", out, "--push", name)

    return do


def test_everything_is_sent_but_the_record_of_the_job(hub, push, out):
    found = push()
    assert found.code == 0, found.err
    assert found.err.endswith(f"uploading to ann/tiny\n{hub.url}/datasets/ann/tiny has it\n")
    assert found.out == ""
    assert {*hub.files} == {*harness.files(out)}
    assert all(content == (out / name).read_bytes() for name, content in hub.files.items())


def test_a_new_repository_is_private(hub, push):
    assert push("ann/tiny").code == 0
    (made,) = hub.created
    assert (made["type"], made["visibility"]) == ("dataset", "private")
    assert push("ann/tiny").code == 0
    assert hub.created == [made]


def test_files_of_an_earlier_set_are_removed(hub, push, out):
    hub.files = {".gitattributes": b"", "manifest.json": b"", "train/shard-00009.parquet": b""}
    assert push().code == 0
    assert {*hub.files} == {*harness.files(out), ".gitattributes"}


@pytest.mark.parametrize(
    "names", [["data.csv"], ["manifest.json", "data.csv"], ["train/shard-00000.parquet"]]
)
def test_a_repository_that_holds_something_else_is_kept(hub, push, names):
    hub.files = dict.fromkeys(names, b"")
    found = push()
    assert found.code == 2
    assert "error: this repository holds other files: " in found.err
    assert [*hub.files] == names


def test_what_was_added_to_the_folder_is_sent_again(hub, shards, tmp_path):
    out = tmp_path / "out"
    done("publish", shards, "--out", out)
    (out / "LICENSE").write_text("mine")
    for text in ("mine", "mine, changed"):
        (out / "LICENSE").write_text(text)
        pushed = run("publish", shards, "--out", out, "--push", "tiny")
        assert pushed.code == 0, pushed.err
        assert hub.files["LICENSE"] == text.encode()


@pytest.mark.parametrize("names", [[], [".gitattributes"], [".gitattributes", "README.md"]])
def test_one_that_was_made_on_the_page_is_filled(hub, push, out, names):
    hub.files = dict.fromkeys(names, b"")
    assert push().code == 0
    assert {*hub.files} == {*harness.files(out), *names}


@pytest.mark.parametrize("name", ["a/b/c", "", "a b", "-a", "ann/..", "https://x.org/a/b"])
def test_a_name_that_is_none(hub, push, name):
    found = push(name)
    assert found.code == 2
    assert "error: --push does not name a repository" in found.err
    assert hub.asked == []


def test_a_hub_that_never_answers(push, monkeypatch):
    monkeypatch.setattr("exactcpt.pipeline.publish.push.PATIENCE", 0.25)
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _, port = silent.getsockname()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        found = push()
    assert found.code == 1
    assert "error: the Hugging Face hub has not answered for 0.25 seconds" in found.err
    assert "run the same command again later" in found.err


def test_nobody_is_logged_in(hub, push, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    found = push()
    assert found.code == 1
    assert "error: nobody is logged in to the Hugging Face hub" in found.err
    assert "hf auth login" in found.err


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        (WHOAMI, 401, "does not accept the token: "),
        (CREATE, 403, "the token may not write to this repository of the Hugging Face hub: no, sa"),
        (COMMIT, 403, "the token may not write to this repository of the Hugging Face hub: no, sa"),
        (COMMIT, 404, "the Hugging Face hub answers with 404: no, says the hub"),
        (COMMIT, 500, "the Hugging Face hub answers with 500: no, says the hub"),
    ],
)
def test_the_hub_refuses(hub, push, asked, status, says):
    hub.refuse[asked] = status
    found = push()
    assert found.code == 1
    assert says in found.err


def test_a_wrong_token_is_noticed_before_the_work(hub, shards, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    found = run("publish", shards, "--out", tmp_path / "new", "--push", "tiny")
    assert found.code == 1
    assert "the Hugging Face hub does not accept the token" in found.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("who", [b"<html>Welcome to our network!</html>", {}, [], "ann", None])
def test_something_else_answers(hub, push, who):
    hub.who = who
    found = push()
    assert found.code == 1
    assert "error: what answers is not the Hugging Face hub" in found.err
    assert hub.created == []


TOKENS = ["hf_sécret", "hf_secret\x01", "hf_secret\nhf_secret", "hf_secret"]


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_token_is_never_printed(hub, push, shards, out, monkeypatch, token, debug):
    monkeypatch.setenv("HF_TOKEN", token)
    found = run("publish", shards, "--out", out, "--push", "tiny", *debug)
    assert found.code == 1
    assert "hf auth login" in found.err
    assert "cret" not in found.err + found.out


def test_the_hub_is_not_there(push, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    with fake_hub.serving() as gone:
        pass
    monkeypatch.setattr(constants, "ENDPOINT", gone.url)
    found = push()
    assert found.code == 1
    assert "error: the Hugging Face hub cannot be reached: " in found.err


def test_a_remote_folder_is_not_pushed(hub, shards):
    found = run("publish", shards, "--out", "memory://out", "--push", "tiny")
    assert found.code == 2
    assert "--push needs a folder on a local disk" in found.err
