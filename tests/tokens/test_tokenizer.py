import json
from pathlib import Path

import pytest
from batches import END
from corpora import LFS

from exactcpt.pipeline.tokens.tokenizer import TokenizerFile, load_tokenizer
from exactcpt.schemas.errors import ExactcptError, UsageError


def tokenizer_of(tmp_path: Path, json_bytes: bytes, **config: object) -> TokenizerFile:
    (tmp_path / "tokenizer.json").write_bytes(json_bytes)
    if config:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(str(tmp_path))


def byte_level(special: list[str] = [], template: str | None = None) -> bytes:  # noqa: B006
    """A byte-level tokenizer without merges; ids have a hole before the special tokens."""
    import tokenizers
    from tokenizers import AddedToken, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([AddedToken(token, special=True) for token in special])
    if template is not None:
        made.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(t, made.token_to_id(t)) for t in special]
        )
    return made.to_str().encode()


def test_a_path_may_be_the_file_or_its_folder(data):
    file, folder = load_tokenizer(str(data / "tokenizer.json")), load_tokenizer(str(data))
    assert file.json == folder.json
    assert file.where == folder.where == str(data / "tokenizer.json")
    assert file.largest_id == 4095


def test_a_url_will_do(data):
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/tokenizers/a/tokenizer.json", (data / "tokenizer.json").read_bytes())
    fs.pipe_file("/tokenizers/a/tokenizer_config.json", b'{"pad_token": "a"}')
    for url in ("memory://tokenizers/a", "memory://tokenizers/a/tokenizer.json"):
        found = load_tokenizer(url)
        assert found.config == {"pad_token": "a"}
        assert found.where == "memory://tokenizers/a/tokenizer.json"


@pytest.mark.parametrize("missing", ["nothing", "empty", "file/tokenizer.json"])
def test_a_missing_tokenizer_is_named(tmp_path, missing):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ExactcptError) as error:
        load_tokenizer(str(tmp_path / missing))
    assert error.value.found == "there is no such tokenizer"
    assert missing in error.value.where


@pytest.mark.parametrize("content", [b"", b"{}", b"no JSON", b'{"model": 5}', b"\xff\xfe"])
def test_what_is_no_tokenizer_is_said_so(tmp_path, content):
    with pytest.raises(ExactcptError, match="this is not a tokenizer: ") as error:
        tokenizer_of(tmp_path, content)
    assert error.value.where == str(tmp_path / "tokenizer.json")
    assert "\n" not in error.value.found


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_pointer_of_git_lfs_is_told(tmp_path, name):
    (tmp_path / "tokenizer.json").write_bytes(byte_level())
    (tmp_path / name).write_bytes(LFS)
    with pytest.raises(ExactcptError, match="this is a Git LFS pointer") as error:
        load_tokenizer(str(tmp_path))
    assert error.value.where == str(tmp_path / name)


@pytest.mark.parametrize("content", ["", "{", "[]", "5"])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(
        ExactcptError, match=r"^tokenizer_config\.json is not a JSON object"
    ) as error:
        tokenizer_of(tmp_path, byte_level())
    assert error.value.where == str(tmp_path / "tokenizer_config.json")


def test_the_largest_id_counts_not_the_number_of_tokens(tmp_path):
    description = json.loads(byte_level([END]))
    description["added_tokens"][0]["id"] = 300
    description["model"]["vocab"][END] = 300
    found = tokenizer_of(tmp_path, json.dumps(description).encode())
    assert len(found.vocabulary) == 257
    assert found.largest_id == 300


def test_the_end_of_documents_as_asked_for(tmp_path):
    found = tokenizer_of(tmp_path, byte_level([END, "<stop>"]))
    assert found.choose_eos("<stop>") == ("<stop>", None)
    token, warning = found.choose_eos("a")
    assert token == "a" and "'a', which is no special token" in str(warning)
    with pytest.raises(UsageError) as error:
        found.choose_eos("<sotp>")
    assert str(error.value) == (
        "the vocabulary has no token '<sotp>'\n"
        f"  where:    {tmp_path / 'tokenizer.json'}\n"
        f"  expected: one of its special tokens: {END}, <stop>\n"
        "  fix:      name it with --eos-token"
    )


@pytest.mark.parametrize("token", [END, "<|end_of_text|>"])
def test_the_end_of_documents_by_its_usual_names(tmp_path, token):
    found = tokenizer_of(tmp_path, byte_level(["<|im_end|>", token]), eos_token="<|im_end|>")
    assert found.choose_eos(None) == (token, None)


@pytest.mark.parametrize("eos", ["<turn>", {"content": "<turn>", "special": True}])
def test_the_end_of_documents_by_the_config_is_doubtful(tmp_path, eos):
    found = tokenizer_of(tmp_path, byte_level(["<turn>"]), eos_token=eos)
    token, warning = found.choose_eos(None)
    assert token == "<turn>"
    assert "'<turn>', the eos_token of tokenizer_config.json" in warning
    assert "see --eos-token" in warning


@pytest.mark.parametrize("config", [{}, {"eos_token": None}, {"eos_token": "<unknown>"}])
def test_without_an_end_of_documents(tmp_path, config):
    found = tokenizer_of(tmp_path, byte_level([f"<{i}>" for i in range(14)]), **config)
    with pytest.raises(UsageError, match="nothing says which token ends a document") as error:
        found.choose_eos(None)
    assert "<0>, <1>" in error.value.expected
    assert error.value.expected.endswith("<11> and 2 more")


def test_without_any_special_token(tmp_path):
    with pytest.raises(UsageError) as error:
        tokenizer_of(tmp_path, byte_level()).choose_eos(None)
    assert error.value.expected == "a token of the vocabulary; no token is marked as special"


def test_the_beginning_of_documents_by_the_template(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>", "</s>"], "<s> $A </s>"))
    assert found.choose_bos(None) == found.choose_bos(True) == found.id_of("<s>")
    assert found.choose_bos(False) is None


def test_a_template_that_only_ends_texts(tmp_path):
    assert tokenizer_of(tmp_path, byte_level(["</s>"], "$A </s>")).choose_bos(None) is None


def test_a_template_that_begins_with_several_tokens(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>", "<lang>"], "<s> <lang> $A"))
    for wanted in (None, True):
        with pytest.raises(UsageError, match="puts 2 tokens before a text"):
            found.choose_bos(wanted)
    assert found.choose_bos(False) is None


def test_the_beginning_of_documents_by_the_config(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>"]), bos_token={"content": "<s>"})
    assert found.choose_bos(None) is None
    assert found.choose_bos(True) == found.id_of("<s>")


@pytest.mark.parametrize("config", [{}, {"bos_token": None}, {"bos_token": "<unknown>"}])
def test_a_beginning_that_nothing_names(tmp_path, config):
    with pytest.raises(UsageError, match="nothing says which token begins a document"):
        tokenizer_of(tmp_path, byte_level(["<s>"]), **config).choose_bos(True)


def test_padding_is_the_pad_token_or_the_end_of_documents(tmp_path):
    named = tokenizer_of(tmp_path, byte_level(["<pad>"]), pad_token="<pad>")
    assert named.choose_pad(7) == named.id_of("<pad>")
    unknown = tokenizer_of(tmp_path, byte_level(["<pad>"]), pad_token="<unknown>")
    assert unknown.choose_pad(7) == 7
    assert tokenizer_of(tmp_path, byte_level(), pad_token=None).choose_pad(7) == 7


@pytest.mark.parametrize(
    ("name", "eos", "bos", "pad", "largest"),
    [
        ("qwen2_5", "<|endoftext|>", None, 151643, 151664),
        ("llama3_1", "<|end_of_text|>", 128000, 128001, 128255),
        ("gpt2", "<|endoftext|>", None, 50256, 50256),
    ],
)
def test_choices_for_well_known_tokenizers(shared, name, eos, bos, pad, largest):
    found = load_tokenizer(str(shared / "tokenizers" / name))
    assert found.choose_eos(None) == (eos, None)
    assert found.choose_bos(None) == bos
    assert found.choose_bos(False) is None
    assert found.choose_pad(found.id_of(eos)) == pad
    assert found.largest_id == largest
