"""Questions about documents, from small files of SQuAD's and HotpotQA's formats."""

import json
import os
import re

import pytest
from ruler import VOCABULARY, items, page, text

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.evaluation.draws import Draws
from exactcpt.training.evaluation.ruler.items import ruler_items
from exactcpt.training.evaluation.ruler.passages import read_hotpotqa, read_squad
from exactcpt.training.evaluation.ruler.questions import question

DECODE = VOCABULARY.tokenizer.decode


def paragraph(town, count=5):
    return " ".join(f"The {n}. street of {town} is long and has {n} trees." for n in range(count))


def squad(articles=4, paragraphs=3, count=5):
    """One question about each paragraph, and one that has no answer."""

    def of(article, number):
        town = f"Town{article}x{number}"
        answers = [{"text": town, "answer_start": 17}, {"text": f"the town of {town}"}]
        return {
            "context": paragraph(town, count),
            "qas": [
                {"question": f"Where are {town} streets?", "answers": [*answers, answers[0]],
                 "is_impossible": False, "id": "1"},
                {"question": "Who?", "answers": [], "plausible_answers": answers,
                 "is_impossible": True, "id": "2"},
            ],
        }  # fmt: skip

    data = [
        {"title": f"a{a}", "paragraphs": [of(a, p) for p in range(paragraphs)]}
        for a in range(articles)
    ]
    return {"version": "v2.0", "data": data}


def hotpotqa(count=4):
    def of(number):
        context = [
            [f"Title{number}x{n}", [f"Person{number}x{n} sings.", " It rains."]] for n in range(10)
        ]
        return {
            "_id": str(number), "question": f"Who sings in {number}?",
            "answer": f"Person{number}x3", "type": "bridge", "level": "hard", "context": context,
            "supporting_facts": [[f"Title{number}x3", 0], [f"Title{number}x7", 1]],
        }  # fmt: skip

    return [of(number) for number in range(count)]


def written(tmp_path, value):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(value))
    return path


def documents(item):
    """The documents of a prompt, whose numbers are right."""
    found = re.findall(r"Document (\d+):\n(.+?)\n\n(?=Document|Question)", text(item), re.DOTALL)
    assert [int(number) for number, _ in found] == [*range(1, len(found) + 1)]
    return [document for _, document in found]


def town_of(document):
    return re.findall(r"Town\d+x\d+", document)[0]


def test_what_squad_has(tmp_path):
    found = read_squad(written(tmp_path, squad()))
    assert len(found.documents) == len(found.questions) == 12
    asked = found.questions[4]
    assert asked.text == "Where are Town1x1 streets?"
    assert asked.answers == ("Town1x1", "the town of Town1x1")
    assert asked.evidence == asked.needed == (4,)
    assert asked.related == (3, 5)


def test_what_hotpotqa_has(tmp_path):
    found = read_hotpotqa(written(tmp_path, hotpotqa()))
    assert (len(found.documents), len(found.questions)) == (40, 4)
    asked = found.questions[1]
    assert asked.answers == ("Person1x3",)
    assert asked.evidence == (13, 17)
    assert asked.needed == tuple(range(10, 20))
    assert found.documents[13] == "Title1x3\nPerson1x3 sings. It rains."


def test_the_right_document_is_in_the_prompt(tmp_path):
    passages = read_squad(written(tmp_path, squad()))
    made = items("qa_1", 700, 12, passages=passages)
    assert len({item.gold for item in made}) == 12
    for item in made:
        town = item.gold[0]
        assert text(item).endswith(f"\n\nQuestion: Where are {town} streets?\nAnswer:")
        assert DECODE(list(item.answers[0])) == f" {town}"
        (each,) = item.evidence
        said = DECODE(item.ids[each.start : each.stop].tolist())
        assert re.fullmatch(rf"Document \d+:\n{re.escape(paragraph(town))}\n\n", said)
        assert item.gold == (town, f"the town of {town}")
        assert len(item.ids) + 32 <= 700


def test_related_documents_come_first(tmp_path):
    """Room for five whole documents: the three of the article are there, and two others."""
    passages = read_squad(written(tmp_path, squad()))
    for item in items("qa_1", 700, 4, passages=passages):
        towns = [town_of(document) for document in documents(item)]
        article = item.gold[0].partition("x")[0]
        assert sum(town.startswith(f"{article}x") for town in towns) == 3
        assert len({*towns}) == len(towns) > 4


def test_the_last_document_is_cut_at_a_sentence(tmp_path):
    passages = read_squad(written(tmp_path, squad(count=12)))
    cut = 0
    for length in range(1000, 1100, 10):
        for item in items("qa_1", length, 2, passages=passages):
            assert 0.95 * length < len(item.ids) + 32 <= length
            for document in documents(item):
                whole = paragraph(town_of(document), 12)
                assert whole.startswith(document)
                assert document.endswith(".")
                cut += document != whole
                assert document == whole or town_of(document) != item.gold[0]
    assert cut > 10


def test_a_file_with_too_few_documents_makes_shorter_prompts(tmp_path):
    passages = read_squad(written(tmp_path, squad()))
    (item,) = items("qa_1", 4000, passages=passages)
    assert len(documents(item)) == 12


def test_both_documents_of_hotpotqa_are_there(tmp_path):
    passages = read_hotpotqa(written(tmp_path, hotpotqa()))
    for item in items("qa_2", 1000, 4, passages=passages):
        found = documents(item)
        number = item.gold[0].removeprefix("Person").partition("x")[0]
        assert {f"Title{number}x{n}" for n in range(10)} <= {d.partition("\n")[0] for d in found}
        said = {
            DECODE(item.ids[each.start : each.stop].tolist()).split("\n")[1]
            for each in item.evidence
        }
        assert said == {f"Title{number}x3", f"Title{number}x7"}


def test_the_order_is_drawn(tmp_path):
    passages = read_squad(written(tmp_path, squad()))
    made = items("qa_1", 700, 12, passages=passages)
    places = {[town_of(d) for d in documents(item)].index(item.gold[0]) for item in made}
    assert len(places) > 2


def test_an_item_is_the_same_whatever_their_number(tmp_path):
    passages = read_squad(written(tmp_path, squad()))
    few, many = (items("qa_1", 700, count, passages=passages) for count in (2, 5))
    assert [text(item) for item in few] == [text(item) for item in many[:2]]
    (other,) = items("qa_1", 700, passages=passages, seed=3)
    assert text(other) != text(few[0])


def test_no_room_for_the_right_document(tmp_path):
    passages = read_squad(written(tmp_path, squad()))
    assert (
        question(passages.questions[0], passages.documents, page(128, budget=32), Draws(0, "x"))
        is None
    )
    with pytest.raises(UsageError, match="no item of the task qa_1 fits into 128 tokens"):
        items("qa_1", 128, passages=passages)


def test_a_long_answer_has_room(tmp_path):
    value = squad()
    value["data"][0]["paragraphs"][0]["qas"][0]["answers"] = [{"text": "long " * 60}]
    passages = read_squad(written(tmp_path, value))
    draft = question(passages.questions[0], passages.documents, page(700, budget=32), Draws(0, "x"))
    assert draft is not None
    assert len(draft.answers[0]) > 32
    assert 600 < len(draft.ids(())) + len(draft.answers[0]) <= 700


def test_too_few_questions(tmp_path):
    path = written(tmp_path, squad())
    with pytest.raises(UsageError) as raised:
        list(ruler_items(["qa_1"], page(700), {"qa_1": read_squad(path)}, count=13, seed=0))
    assert str(raised.value) == (
        "the file has 12 questions with an answer\n"
        f"  where:    {path}\n"
        "  expected: at least 13, one for each item\n"
        "  fix:      give --items 12"
    )


WRONG = [
    [], {}, {"data": {}}, {"data": [{"paragraphs": [{"context": 7, "qas": []}]}]},
    {"data": [{"title": "a"}]}, {"data": [{"paragraphs": [{"context": "a"}]}]}, [[]], [{}], "text",
    [{"question": "q", "answer": "a", "supporting_facts": [["t"]], "context": []}],
    [{"question": "q", "answer": None, "supporting_facts": [], "context": []}],
    [{"question": "q", "answer": "a", "supporting_facts": [], "context": [["t", "sentence"]]}],
]  # fmt: skip


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(("read", "name"), [(read_squad, "SQuAD 2.0"), (read_hotpotqa, "HotpotQA")])
def test_files_of_another_kind(tmp_path, read, name, value):
    path = written(tmp_path, value)
    with pytest.raises(FormatError, match=f"{name}") as raised:
        read(path)
    assert raised.value.where == str(path)


def test_files_that_are_exchanged(tmp_path):
    with pytest.raises(FormatError) as raised:
        read_squad(written(tmp_path, hotpotqa()))
    assert raised.value.found == "this is not a file of SQuAD 2.0"
    assert raised.value.expected is not None
    assert raised.value.expected.startswith('JSON like {"data": [{"paragraphs": [{"context"')
    with pytest.raises(FormatError, match="this is not a file of HotpotQA"):
        read_hotpotqa(written(tmp_path, squad()))


def test_a_sentence_may_be_empty(tmp_path):
    value = hotpotqa(1)
    value[0]["context"][2][1] += ["", " "]
    found = read_hotpotqa(written(tmp_path, value))
    assert found.documents[2] == "Title0x2\nPerson0x2 sings. It rains. "
    value[0]["context"][2][1] = ["", " "]
    with pytest.raises(FormatError, match="this is not a file of HotpotQA"):
        read_hotpotqa(written(tmp_path, value))


def test_questions_of_the_full_wiki(tmp_path):
    """Their own paragraphs were found by a search, and need not have the answer."""
    value = hotpotqa(3)
    del value[2]["context"][7]
    path = written(tmp_path, value)
    with pytest.raises(FormatError) as raised:
        read_hotpotqa(path)
    assert str(raised.value) == (
        "the question 'Who sings in 2?' is not answered by its own paragraphs: 'Title2x7' is not "
        f"among them\n  where:    {path}\n  expected: HotpotQA in the distractor setting\n"
        "  fix:      give hotpot_dev_distractor_v1.json, not the file of the full wiki"
    )


def test_files_without_an_answer(tmp_path):
    value = squad(1, 1)
    del value["data"][0]["paragraphs"][0]["qas"][0]
    with pytest.raises(FormatError, match=r"the file of SQuAD 2\.0 has no question with an answer"):
        read_squad(written(tmp_path, value))


def test_files_that_are_no_json(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"\x00\xff")
    with pytest.raises(FormatError, match="this is not a file of HotpotQA"):
        read_hotpotqa(path)
    with pytest.raises(UsageError, match="the file of HotpotQA cannot be read: No such file"):
        read_hotpotqa(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="this is a named pipe"):
        read_squad(tmp_path / "pipe")
