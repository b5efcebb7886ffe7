"""`doctor` says what is there, and works without what is not."""

import json
from importlib.metadata import version

import pytest
import vocabularies
from harness import DATA, done, run

from exactcpt.pipeline.commands import doctor
from exactcpt.schemas.extras import install_line
from exactcpt.training.models.attention import BACKENDS
from exactcpt.training.models.machine import REASONS


def report(*arguments: object) -> dict:
    return json.loads(done("doctor", *arguments, "--json").out)


def test_what_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(tmp_path / ".."))
    monkeypatch.setattr(doctor, "usable_cores", lambda: 7)
    found = report(tmp_path)
    assert found["versions"]["pyarrow"] == version("pyarrow")
    assert found["versions"]["torch"] == version("torch")
    assert found["cores"] == 7
    assert found["memory_bytes"] > 1 << 28
    folder, temporary = found["disks"]
    assert folder["path"] == str(tmp_path) and folder["free_bytes"] > 0
    assert temporary["path"] == str(tmp_path.parent)
    assert found["training"]["attention"] in BACKENDS
    assert found["tokenizer"] is None


def test_every_other_backend_has_a_reason():
    assert {*REASONS["cpu"], "cpu"} == {*REASONS["cuda"], "varlen"} == {*BACKENDS}


def test_it_works_without_torch(monkeypatch):
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "torch" else "there")
    monkeypatch.setattr(doctor, "version", lambda name: _version(name))
    out = done("doctor").out
    assert "torch           not installed\n" in out
    assert f"training        torch is not installed: {install_line('train')}\n" in out


def _version(name: str) -> str:
    if name == "torch":
        raise doctor.PackageNotFoundError
    return version(name)


def test_a_torch_that_cannot_be_used(monkeypatch):
    class Entry:
        def load(self):
            raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "entry_points", lambda **_: (Entry(),))
    out = done("doctor").out
    assert "training        torch or transformers cannot be used: libcudart.so.13" in out


def test_what_attention_runs(monkeypatch):
    class Entry:
        def load(self):
            return lambda: {
                "cuda": "13.0",
                "devices": ["NVIDIA H200"],
                "attention": "varlen",
                "attention_kernel": "FA3",
                "not_attention": {},
            }

    monkeypatch.setattr(doctor, "entry_points", lambda **_: (Entry(),))
    assert "attention       varlen, FA3\n" in done("doctor").out


def test_a_tokenizer_that_gigatoken_encodes_alike():
    found = report("--tokenizer", DATA)["tokenizer"]
    assert found["backend"] == "gigatoken" and found["why_not_gigatoken"] is None
    assert (
        "gigatoken: it gives the same tokens as tokenizers"
        in done("doctor", "--tokenizer", DATA).out
    )


def test_a_tokenizer_that_gigatoken_does_not_support(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(vocabularies.dumped(vocabularies.word_level()))
    found = report("--tokenizer", tmp_path)["tokenizer"]
    assert found["backend"] == "tokenizers"
    assert "gigatoken does not support it: " in found["why_not_gigatoken"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], ["cannot look at the folder: No such file", "where:    nowhere"]),
        (["--tokenizer", "nowhere"], ["there is no such tokenizer", "nowhere"]),
    ],
)
def test_what_is_not_there(arguments, says):
    outcome = run("doctor", *arguments)
    assert outcome.code != 0 and outcome.out == ""
    assert all(words in outcome.err for words in says)
