import pytest

from exactcpt.pipeline.sources.cards import NOT_LISTED, Declared, read_card


def card(configs: str) -> str:
    return f"---\nlicense: cc0-1.0\nconfigs:\n{configs}---\n# About\n"


def declared(configs: str) -> Declared:
    found = read_card(card(configs))
    assert found is not None
    return found


SPLITS = """\
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path:
    - data/test-*
    - ./more/**
"""


def test_files_by_split() -> None:
    found = declared(SPLITS)
    assert (found.configs, found.default) == (["default"], "default")
    names = ["data/train-0.parquet", "data/test-0.parquet", "more/a/b", "data/x/train-0", "a"]
    assert [found.split_of(name) for name in names] == [
        *("train", "test", "test"),
        *(NOT_LISTED, NOT_LISTED),
    ]


@pytest.mark.parametrize("listed", ["a/*.jsonl", "\n  - a/*.jsonl\n  - b.jsonl"])
def test_without_splits_all_is_for_training(listed: str) -> None:
    found = declared(f"- config_name: x\n  data_files: {listed}\n")
    assert found.split_of("a/test.jsonl") == "train"
    assert found.split_of("c.jsonl") is NOT_LISTED


def test_a_folder() -> None:
    found = declared("- config_name: x\n  data_dir: ./en/\n")
    assert found.split_of("en/test/a.jsonl") == "test"
    assert found.split_of("en/a.jsonl") is None
    assert found.split_of("english/a.jsonl") is NOT_LISTED
    found = declared("- config_name: x\n  data_dir: en\n  data_files: a*\n")
    assert found.split_of("en/a.jsonl") == "train"
    assert found.split_of("a.jsonl") is NOT_LISTED


@pytest.mark.parametrize(
    ("configs", "default"),
    [
        ("- config_name: en\n", "en"),
        ("- config_name: en\n- config_name: default\n", "default"),
        ("- config_name: en\n- config_name: fr\n  default: true\n", "fr"),
        ("- config_name: en\n- config_name: fr\n", None),
    ],
)
def test_the_default(configs: str, default: str | None) -> None:
    assert declared(configs).default == default


@pytest.mark.parametrize(
    "text", ["", "# configs:\n", "---\nlicense: x\n---\n", "text\nconfigs: of things\n"]
)
def test_nothing_is_declared(text: str) -> None:
    assert read_card(text) is None


@pytest.mark.parametrize(
    "configs",
    [
        *("- {\n", "- 5\n", "- name: x\n", "  default: x\n"),
        "- config_name: x\n  data_files:\n  - path: a\n",
        "- config_name: x\n  data_files: 5\n",
        "- config_name: x\n  data_files: '**.jsonl'\n",
        "- config_name: x\n  data_files:\n  - split: [a]\n    path: a\n",
        "- config_name: [a]\n",
        "- config_name: x\n  data_dir: {a: b}\n",
        "- &a {config_name: x}\n- <<: *a\n",
    ],
)
def test_what_nobody_understands(configs: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read_card(card(configs))


@pytest.mark.parametrize("line", ["\n", "configs:\n", "---\n", " \n"])
def test_a_million_lines_take_no_time(line: str) -> None:
    assert read_card("---\n" + 1_000_000 * line) is None


def test_blank_lines_and_ends_of_other_systems() -> None:
    text = "\n" + card(SPLITS.replace("\n", "\n\n")).replace("\n", "\r\n")
    found = read_card(text)
    assert found is not None
    assert found.split_of("data/test-0.parquet") == "test"
