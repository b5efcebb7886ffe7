"""Records with answers become pieces, or are rejected with a reason."""

import json
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources.answers import Form, UnusableError, read_template
from exactcpt.pipeline.sources.columns import batch_of_columns
from exactcpt.pipeline.sources.jsonl import parse_block
from exactcpt.pipeline.sources.records import Batch, Fields
from exactcpt.schemas.errors import FormatError, UsageError

QUESTION = Form(prompt="q", answer="a", context="c")
CHAT = Form(messages="m")


def texts(batch: Batch) -> list[list[tuple[str, bool]]]:
    """The pieces of a batch's documents."""
    assert batch.pieces is not None
    each = batch.pieces.texts(batch.content)
    bounds = batch.pieces.bounds.tolist()
    return [
        [(each[i].tobytes().decode(), bool(batch.pieces.supervised[i])) for i in range(first, last)]
        for first, last in pairwise(bounds)
    ]


def read(record: object, form: Form) -> list[tuple[str, bool]] | str:
    """The pieces of a record as a line of JSON, or why it is rejected."""
    batch, _ = parse_block(json.dumps(record).encode(), 1, "f", Fields(form=form))
    return batch.rejected[0].reason if batch.rejected else texts(batch)[0]


@pytest.mark.parametrize("context", [{}, {"c": None}, {"c": ""}])
def test_the_usual_form(context):
    form = QUESTION if context else Form(prompt="q", answer="a")
    expected = [("Question: Who?\nAnswer:", False), (" Mary", True)]
    assert read({"q": "Who?", "a": "Mary", **context}, form) == expected


def test_a_context_comes_first():
    found = read({"q": "Who?", "a": " Mary ", "c": "A novel."}, QUESTION)
    assert found == [("A novel.\n\nQuestion: Who?\nAnswer:", False), ("  Mary ", True)]


def test_what_the_fields_say_is_no_template():
    found = read({"q": "{answer} {q}", "a": "{prompt}{0}", "c": "{context}\\1"}, QUESTION)
    assert found == [
        ("{context}\\1\n\nQuestion: {answer} {q}\nAnswer:", False),
        (" {prompt}{0}", True),
    ]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"a": "x", "c": None}, "no field 'q'"),
        ({"q": "x", "c": None}, "no field 'a'"),
        ({"q": "x", "a": "y"}, "no field 'c'"),
        ({"q": "x", "a": "", "c": ""}, "field 'a' is empty"),
        ({"q": None, "a": "y", "c": ""}, "field 'q' is null"),
        ({"q": "x", "a": ["y"], "c": ""}, "field 'a' is not a string"),
        ({"q": "x", "a": "y", "c": 3}, "field 'c' is not a string"),
        ({"q": "\ud800", "a": "y", "c": ""}, "field 'q' has a lone surrogate"),
        (["q", "a"], "not a JSON object"),
    ],
)
def test_records_without_a_document(record, reason):
    assert read(record, QUESTION) == reason


def test_a_field_that_occurs_twice():
    batch, _ = parse_block(
        b'{"q": "x", "a": "y", "c": "", "a": "z"}', 7, "f", Fields(form=QUESTION)
    )
    assert [(r.at, r.reason) for r in batch.rejected] == [(7, "field 'a' occurs more than once")]


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def test_a_conversation():
    messages = [
        *(said("system", "Be brief."), said("user", "One?"), said("assistant", "1")),
        *(said("user", "Two?"), said("assistant", "2")),
    ]
    assert read({"m": messages}, CHAT) == [
        ("Be brief.\n\nQuestion: One?\nAnswer:", False),
        (" 1", True),
        ("\n\nQuestion: Two?\nAnswer:", False),
        (" 2", True),
    ]


def test_a_question_is_the_same_as_a_conversation_of_two_messages():
    one = read({"q": "Why?", "a": "So.", "c": "It is."}, QUESTION)
    messages = [said("system", "It is."), said("user", "Why?"), said("assistant", "So.")]
    assert read({"m": messages}, CHAT) == one


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (None, "field 'm' is null"),
        ("text", "field 'm' is not a list of messages"),
        ({"role": "user"}, "field 'm' is not a list of messages"),
        ([], "no message is an answer: none has the role assistant"),
        ([said("user", "x")], "no message is an answer: none has the role assistant"),
        (
            [said("assistant", "x"), said("user", "y")],
            "the last message is not of the role assistant",
        ),
        ([said("assistant", "")], "message 1, an answer, is empty"),
        (
            [said("tool", "x")],
            "message 1 has the role 'tool', which is none of system, user, assistant",
        ),
        ([{"role": "user"}], "message 1 has no role or no content, or one is no string"),
        (["x"], "message 1 has no role or no content, or one is no string"),
        ([7], "message 1 has no role or no content, or one is no string"),
        ([["role", "user"]], "message 1 has no role or no content, or one is no string"),
        ([said("user", "\udc00")], "message 1 has a lone surrogate"),
    ],
)
def test_conversations_without_a_document(messages, reason):
    assert read({"m": messages}, CHAT) == reason


def test_a_message_with_two_contents():
    line = b'{"m": [{"role": "assistant", "content": "a", "content": "b"}]}'
    (rejected,) = parse_block(line, 1, "f", Fields(form=CHAT))[0].rejected
    assert rejected.reason == "message 1 has a role or a content twice"


words = st.text(st.characters(codec="utf-8"), max_size=12)
rows = st.lists(
    st.fixed_dictionaries({"q": words | st.none(), "a": words | st.none(), "c": words | st.none()}),
    min_size=1,
    max_size=6,
)


@given(rows)
def test_columns_are_read_as_lines_are(records):
    lines = "\n".join(json.dumps(record) for record in records).encode()
    of_lines, _ = parse_block(lines, 1, "f", Fields(form=QUESTION))
    schema = pa.schema({name: pa.string() for name in "qac"})
    table = pa.RecordBatch.from_pylist(records, schema=schema)
    of_columns = batch_of_columns(table, "f", Fields(form=QUESTION), 1)
    assert texts(of_columns) == texts(of_lines)
    assert of_columns.ids.to_pylist() == of_lines.ids.to_pylist()
    assert of_columns.without_id == of_lines.without_id
    assert [(r.at, r.reason) for r in of_columns.rejected] == [
        (r.at, r.reason) for r in of_lines.rejected
    ]


def test_conversations_in_columns():
    messages = [[said("user", "x"), said("assistant", "y")], [said("user", "x")]]
    table = pa.table({"m": messages, "id": ["one", "two"]})
    batch = batch_of_columns(table, "f", Fields(form=CHAT), 5)
    assert texts(batch) == [[("Question: x\nAnswer:", False), (" y", True)]]
    assert batch.ids.to_pylist() == ["one"]
    assert [r.at for r in batch.rejected] == [6]


@given(rows, rows)
def test_batches_are_joined(one, other):
    batches = [
        parse_block("\n".join(map(json.dumps, some)).encode(), 1, "f", Fields(form=QUESTION))[0]
        for some in (one, other)
    ]
    assert texts(Batch.join(batches)) == [d for batch in batches for d in texts(batch)]


# templates


def template(tmp_path, text: str, *, context: bool = False) -> str:
    path = tmp_path / "template.txt"
    path.write_bytes(text.encode())
    return read_template(str(path), context=context)


def test_a_template(tmp_path):
    text = template(tmp_path, "<c>{context}</c>\n{prompt} {other} -> {answer}\r\n", context=True)
    form = Form(prompt="q", answer="a", context="c", template=text)
    assert read({"q": "Who?", "a": "Mary", "c": "x"}, form) == [
        ("<c>x</c>\nWho? {other} ->", False),
        (" Mary", True),
    ]
    assert read({"q": "Who?", "a": "Mary", "c": None}, form) == [
        ("<c></c>\nWho? {other} ->", False),
        (" Mary", True),
    ]


pieces = st.lists(st.sampled_from(["{prompt}", "{context}", " ", "  ", "\n", "x", "{", "}", "Q:"]))


@given(pieces, words, words.filter(bool), words)
def test_any_template_says_what_formatting_says(parts, prompt, answer, context):
    text = "".join([*parts, "{answer}"])
    form = Form(prompt="q", answer="a", context="c", template=text)
    found = form.pieces({"q": prompt, "a": answer, "c": context})
    joined = b"".join(text for text, _ in found).decode()
    values = {"{prompt}": prompt, "{context}": context}
    expected = "".join(values.get(part, part) for part in parts) + answer
    if "{" not in parts:  # a bare brace may make another field of what follows
        assert joined == expected
    *read_only, (last, supervised) = found
    assert supervised and last.decode().lstrip(" ") == answer.lstrip(" ")
    assert not any(flag for _, flag in read_only)


@pytest.mark.parametrize(
    ("text", "context", "says"),
    [
        ("{prompt}", False, "has no {answer}"),
        ("{prompt}{answer}{answer}", False, "has {answer} more than once"),
        ("{prompt} {answer}.", False, "goes on after {answer}"),
        ("{answer}", False, "has no {prompt}"),
        ("{prompt}{answer}", True, "has no {context}, and the source names a context"),
        ("{context}{prompt}{answer}", False, "has {context}, and the source names none"),
    ],
)
def test_templates_that_are_none(tmp_path, text, context, says):
    with pytest.raises(UsageError, match=r"the template") as caught:
        template(tmp_path, text, context=context)
    assert says in caught.value.found
    assert caught.value.expected
    assert caught.value.where == str(tmp_path / "template.txt")


def test_templates_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_template(str(tmp_path / "none"), context=False)
    (tmp_path / "binary").write_bytes(b"\xff{prompt}{answer}")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_template(str(tmp_path / "binary"), context=False)
    with pytest.raises(FormatError, match="folder"):
        read_template(str(tmp_path), context=False)


def test_a_reason_is_an_error_of_its_own():
    with pytest.raises(UnusableError, match="no field 'q'"):
        QUESTION.pieces({})
