import json
from pathlib import Path

import pytest
from batches import END
from corpora import LFS
from vocabularies import KINDS

from exactcpt.pipeline.tokens.tokenizer import (
    TokenizerFile,
    load_tokenizer,
    reference_tokenizer,
)
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
    data = json.dumps(description).encode()
    assert reference_tokenizer(data, False).get_vocab_size() == 257
    assert tokenizer_of(tmp_path, data).largest_id == 300


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("added", [[], ["an added token", "another"]])
def test_ids_are_those_of_the_library(tmp_path, kind, added):
    made = KINDS[kind]()
    made.add_tokens(added)
    found = tokenizer_of(tmp_path, made.to_str().encode())
    vocabulary = made.get_vocab(with_added_tokens=True)
    assert found.largest_id == max(vocabulary.values())
    assert {token: found.id_of(token) for token in vocabulary} == vocabulary
    assert found.id_of("no token of it") is None and found.id_of(None) is None


def test_what_is_not_utf8_is_in_no_vocabulary(tmp_path):
    """A word of the command line may be any bytes, and an escape in JSON half a character."""
    found = tokenizer_of(tmp_path, byte_level([END]), pad_token="\ud83d")
    assert found.choose_pad(0) == 0
    with pytest.raises(UsageError, match=r"the vocabulary has no token '\\udcff'"):
        found.choose_eos("\udcff")
    description = {"content": "\ud83d", "special": True}
    found = tokenizer_of(tmp_path, byte_level([END]), added_tokens_decoder={"5": description})
    assert "does not have under that id" in " ".join(found.warnings())


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
    assert found.choose_bos(None) == found.choose_bos(True) == (found.id_of("<s>"), None)
    assert found.choose_bos(False) == (None, None)


def test_a_template_that_only_ends_texts(tmp_path):
    assert tokenizer_of(tmp_path, byte_level(["</s>"], "$A </s>")).choose_bos(None) == (None, None)


def test_a_template_that_begins_with_several_tokens(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>", "<lang>"], "<s> <lang> $A"))
    for wanted in (None, True):
        with pytest.raises(UsageError, match="puts 2 tokens before a text"):
            found.choose_bos(wanted)
    assert found.choose_bos(False) == (None, None)


def test_the_beginning_of_documents_by_the_config(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>"]), bos_token={"content": "<s>"})
    assert found.choose_bos(None) == (None, None)
    assert found.choose_bos(True) == (found.id_of("<s>"), None)


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


ADDS_BOS = {"add_bos_token": True, "bos_token": "<s>"}


def test_the_config_may_ask_for_a_beginning_that_the_template_lacks(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>"]), **ADDS_BOS)
    assert found.choose_bos(None) == (
        found.id_of("<s>"),
        "documents begin with '<s>': add_bos_token is true in tokenizer_config.json, although the "
        "tokenizer's own template adds no token; --no-bos leaves it out",
    )
    assert found.choose_bos(True) == (found.id_of("<s>"), None)
    assert found.choose_bos(False) == (None, None)


def test_a_template_that_begins_with_the_token_needs_no_word(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>"], "<s> $A"), **ADDS_BOS)
    assert found.choose_bos(None) == (found.id_of("<s>"), None)


@pytest.mark.parametrize("bos", [{}, {"bos_token": None}, {"bos_token": "<unknown>"}])
def test_a_beginning_that_the_config_asks_for_and_does_not_name(tmp_path, bos):
    found = tokenizer_of(tmp_path, byte_level(["<s>"]), add_bos_token=True, **bos)
    number, warning = found.choose_bos(None)
    assert number is None
    assert warning == (
        "documents begin with no BOS: add_bos_token is true in tokenizer_config.json, but its "
        "bos_token is missing or not in the vocabulary"
    )


def test_the_template_is_followed_where_the_config_denies_it(tmp_path):
    found = tokenizer_of(tmp_path, byte_level(["<s>"], "<s> $A"), add_bos_token=False)
    number, warning = found.choose_bos(None)
    assert number == found.id_of("<s>")
    assert str(warning).startswith("documents begin with '<s>', as the tokenizer's own template")
    assert "add_bos_token is false" in str(warning)


def test_the_template_is_read_whatever_the_vocabulary_has(tmp_path):
    """The letter a, say, may be unknown to a tokenizer, or be nothing to it."""
    import tokenizers
    from tokenizers import models, processors

    for model in (
        models.WordLevel({"<s>": 0, "\u6f22": 1}, unk_token="?"),
        models.BPE({"<s>": 0}, []),
    ):
        made = tokenizers.Tokenizer(model)
        made.add_special_tokens(["<s>"])
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A <s>", special_tokens=[("<s>", 0)]
        )
        assert tokenizer_of(tmp_path, made.to_str().encode()).choose_bos(None) == (0, None)


def test_dropout_is_said(tmp_path):
    description = json.loads(byte_level([END]))
    assert tokenizer_of(tmp_path, json.dumps(description).encode()).warnings() == []
    description["model"]["dropout"] = 0.1
    assert tokenizer_of(tmp_path, json.dumps(description).encode()).warnings() == [
        "tokenizer.json has dropout 0.1, which makes encoding random: it is switched off"
    ]


def test_added_tokens_that_tokenizer_json_lacks_are_said(tmp_path):
    known = tokenizer_of(tmp_path, byte_level([END])).id_of(END)
    added = {str(known): {"content": END}, "900": {"content": "<tool>"}, "901": {"content": "a"}}
    found = tokenizer_of(tmp_path, byte_level([END]), added_tokens_decoder=added)
    assert found.warnings() == [
        "tokenizer_config.json adds 2 tokens that tokenizer.json does not have under that id, such "
        "as '<tool>' (id 900): texts are encoded without"
    ]
    for other in ({str(known): {"content": END}}, [], {"5": None}):
        found = tokenizer_of(tmp_path, byte_level([END]), added_tokens_decoder=other)
        assert found.warnings() == []


@pytest.mark.parametrize("value", [5, ["</s>"], {"content": 5}, {}, True])
def test_a_token_of_the_config_that_is_no_text_is_none(tmp_path, value):
    found = tokenizer_of(tmp_path, byte_level(["<s>"]), eos_token=value, pad_token=value)
    assert found.choose_pad(7) == 7
    with pytest.raises(UsageError, match="nothing says which token ends a document"):
        found.choose_eos(None)


# files that are no tokenizer


@pytest.mark.parametrize(
    ("content", "found", "fix"),
    [
        (b"\xef\xbb\xbf{}", "it is UTF-8 with a byte order mark", "save it as UTF-8 without"),
        ("{}".encode("utf-16"), "it is UTF-16", "save it as UTF-8 without"),
        (b'{"model": {"type": "BPE", "vocab": {}, "merges": []}}', "its vocabulary is empty", None),
        (
            b'{"model": {"type": "BPE", "vocab": {"a": 3000000000}, "merges": []}}',
            "it has ids above 2,147,483,647",
            None,
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, found, fix):
    with pytest.raises(ExactcptError) as error:
        tokenizer_of(tmp_path, content)
    assert error.value.found == f"this is not a tokenizer: {found}"
    assert error.value.where == str(tmp_path / "tokenizer.json")
    assert (error.value.fix or "").startswith(fix or "")
    assert bool(error.value.fix) == bool(fix)


def test_files_of_other_libraries_are_named(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15")
    with pytest.raises(ExactcptError) as error:
        load_tokenizer(str(tmp_path))
    assert str(error.value) == (
        "the folder has no tokenizer.json, but tokenizer.model, a SentencePiece model\n"
        f"  where:    {tmp_path}/tokenizer.json\n"
        "  expected: a tokenizer.json of the tokenizers library\n"
        "  fix:      convert it with transformers: AutoTokenizer.from_pretrained(FOLDER)"
        ".save_pretrained(FOLDER) writes a tokenizer.json"
    )
    with pytest.raises(ExactcptError, match="tokenizer: it is a SentencePiece model") as error:
        load_tokenizer(str(tmp_path / "tokenizer.model"))
    assert str(error.value.fix).startswith("convert it with transformers")


def test_a_config_nested_without_end_is_damaged(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text("[" * 100_000)
    with pytest.raises(ExactcptError, match="is not a JSON object"):
        tokenizer_of(tmp_path, byte_level())


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
    assert found.choose_bos(None) == (bos, None)
    assert found.choose_bos(False) == (None, None)
    assert found.choose_pad(found.id_of(eos)) == pad
    assert found.largest_id == largest
