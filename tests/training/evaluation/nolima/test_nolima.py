"""NoLiMa's protocol, with made-up data of its form."""

import json
from collections import Counter
from itertools import product

import pytest
from evaluations import vocabulary
from nolima_data import NAMES, NEEDLES, write_nolima

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.evaluation.nolima.data import Test as NeedleTest
from exactcpt.training.evaluation.nolima.data import check_given, read_books, read_tests
from exactcpt.training.evaluation.nolima.items import DEPTHS, nolima_items, shelf_of
from exactcpt.training.evaluation.nolima.summary import effective_length, effective_lines

LENGTH = 500


@pytest.fixture
def folder(tmp_path):
    return write_nolima(tmp_path / "nolima")


def made(folder, count=12, seed=0, length=LENGTH):
    tests, _ = read_tests(folder, "needle_set")
    shelf = shelf_of(read_books(folder), vocabulary(), length)
    return tests, [*nolima_items("needle_set", tests, shelf, length=length, count=count, seed=seed)]


def text_of(item) -> str:
    return vocabulary().tokenizer.decode(item.ids.tolist(), skip_special_tokens=False)


def test_every_question_of_every_test_is_a_test(folder):
    tests, _ = read_tests(folder, "needle_set")
    assert [test.name for test in tests] == [
        "0001 onehop A", "0001 onehop B", "0001 twohop A", "0001 twohop B", "0002 onehop C",
    ]  # fmt: skip
    assert tests[0].needle == "By the way, {CHAR} polished the teapot all day."
    assert tests[0].question == "Who made something of silver shine?"
    assert tests[0].template.startswith("Read with care.\n\nSome pages of a book:")
    assert tests[0].distractor is None
    assert tests[-1].template == "{haystack}\n\n{question}"
    assert tests[-1].distractor == "Nobody learned Old Norse that year."
    assert tests[-1].gold == ("the clerk",)


def test_a_prompt_has_the_needle_in_a_line_of_its_own_and_ends_with_the_question(folder):
    tests, items = made(folder)
    for item in items:
        text = text_of(item)
        name = item.gold[0]
        (test,) = (
            test
            for test in tests
            if f"\n{test.needle.replace('{CHAR}', name)}\n" in text and test.question in text
        )
        assert text.endswith(f"\n{test.question}\nAnswer:")
        if test.distractor is not None:
            assert f"\n{test.distractor}\n" in text
        assert item.gold[1:] == test.gold
        assert "{" not in text


def test_the_evidence_is_where_it_is_said_to_be(folder):
    _, items = made(folder)
    decode = vocabulary().tokenizer.decode
    for item in items:
        (evidence,) = item.evidence
        said = decode(item.ids[evidence.start : evidence.stop].tolist())
        assert item.gold[0] in said
        last = len(item.ids) - evidence.distance
        assert evidence.start <= last < evidence.stop
        up_to_name = decode(item.ids[evidence.start : last + 1].tolist())
        assert item.gold[0] in up_to_name
        assert item.gold[0] not in decode(item.ids[evidence.start : last].tolist())


def test_all_names_of_the_set_are_answers(folder):
    _, items = made(folder)
    encode = vocabulary().piece
    for item in items:
        wanted = {tuple(encode(f" {name}")) for name in NAMES}
        assert {*item.answers} == wanted
        assert item.answers[0] == tuple(encode(f" {item.gold[0]}"))
    assert {item.gold[0] for item in items} == {*NAMES}


def test_the_haystack_has_the_length_without_the_needle(folder):
    """A template of nothing but haystack and question says how long it is."""
    tests, items = made(folder, count=10)
    (test,) = (test for test in tests if test.name.startswith("0002"))
    encode = vocabulary().encode
    (item, *_) = (item for item in items if test.question in text_of(item))
    around = f"\n{test.needle}\n{test.distractor}\n\n\n{test.question}\nAnswer:"
    assert len(item.ids) == pytest.approx(LENGTH + len(encode(around)), abs=6)


def test_depths_go_from_the_beginning_to_the_end(folder):
    _, items = made(folder, count=5 * DEPTHS)
    shares = sorted(item.evidence[0].start / len(item.ids) for item in items)
    assert shares[0] < 0.15
    assert shares[-1] > 0.85


@pytest.mark.parametrize("books", [1, 2, 5])
def test_items_go_evenly_over_tests_depths_and_books(monkeypatch, books):
    """All combinations come about once; and the first ones have each test and depth as often."""
    from exactcpt.training.evaluation.nolima import items as module

    tests = [
        NeedleTest(
            name=str(n), template="", needle="", question="", distractor=None, names=(), gold=()
        )
        for n in range(7)
    ]
    seen: list[tuple[str, float, int]] = []

    class Shelf:
        books: tuple = ()

        def text(self, book, length):
            return str(book)

    Shelf.books = tuple(range(books))

    def note(task, number, test, text, depth, shelf, draws):
        seen.append((test.name, round(depth * (DEPTHS - 1)), int(text)))

    monkeypatch.setattr(module, "_item", note)
    list(module.nolima_items("t", tests, Shelf(), length=9, count=1 << 20, seed=0))  # pyright: ignore[reportArgumentType]
    assert Counter(seen) == Counter(
        product([test.name for test in tests], range(DEPTHS), range(books))
    )
    for part, number in ((0, 7), (1, DEPTHS), (2, books)):
        counts = Counter(each[part] for each in seen[: 7 * DEPTHS])
        assert len(counts) == number
        assert max(counts.values()) - min(counts.values()) <= 7


def test_an_item_is_the_same_whatever_their_number(folder):
    _, few = made(folder, count=4)
    _, many = made(folder, count=9)
    assert [item.ids.tolist() for item in few] == [item.ids.tolist() for item in many[:4]]
    _, other = made(folder, count=4, seed=1)
    assert [item.ids.tolist() for item in few] != [item.ids.tolist() for item in other]


def test_a_book_that_is_too_short(folder):
    shelf = shelf_of(read_books(folder), vocabulary(), 1 << 20)
    with pytest.raises(UsageError, match="a book of the haystack has only"):
        shelf.check_holds(1 << 20)


@pytest.mark.parametrize("given", [None, "nowhere"])
def test_without_data_it_says_where_they_are_and_what_their_licence_allows(given, tmp_path):
    with pytest.raises(UsageError) as told:
        check_given(given and str(tmp_path / given))
    assert "huggingface.co/datasets/amodaresi/NoLiMa" in str(told.value)
    assert "research that is not commercial" in str(told.value)


def test_another_needle_set(folder):
    with pytest.raises(UsageError) as told:
        read_tests(folder, "needle_set_hard")
    assert told.value.expected == "--tasks with any of needle_set"


def test_a_folder_without_books(folder):
    for path in (folder / "haystack" / "rand_shuffle").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match="there are no books"):
        read_books(folder)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"needle": "no name"}, "{CHAR} in its needle"),
        ({"task_template": "{question}"}, "{haystack} in its task_template"),
        ({"task_template": "{haystack}"}, "{question} in its task_template"),
        ({"character_set": ["Bela", "Bela"]}, "two or more different names in its character_set"),
        ({"questions": ["Who?"]}, "an object in 'questions'"),
        ({"tests": {"A": {"input_args": "teapot"}}}, "a list of texts in 'input_args'"),
        ({"tests": None}, "an object in 'tests'"),
    ],
)
def test_needles_of_another_form_are_refused(folder, changes, expected):
    path = folder / "needlesets" / "needle_set.json"
    path.write_text(json.dumps([NEEDLES[0] | changes]))
    with pytest.raises(FormatError, match="has another form than NoLiMa's") as told:
        read_tests(folder, "needle_set")
    assert told.value.expected == expected
    assert told.value.where == str(path)


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', "[3]"])
def test_files_of_another_form_are_refused(folder, text):
    (folder / "needlesets" / "needle_set.json").write_text(text)
    with pytest.raises(FormatError):
        read_tests(folder, "needle_set")


def test_base_score_and_effective_length():
    scores = {250: 0.9, 500: 0.8, 1000: 0.7, 2000: 0.69, 4000: 0.67}
    assert effective_length(scores) == (pytest.approx(0.8), 2000)  # at least 0.68
    assert effective_length({250: 0.9, 500: 0.8}) is None
    summaries = [
        {"model": "m", "suite": "nolima", "length": length, "rows": [{"match": score}]}
        for length, score in scores.items()
    ]
    (line,) = effective_lines(summaries)
    assert line.startswith("m: base score 0.800")
    assert "effective length 2,000, the longest with at least 85% of it" in line
    assert not list(effective_lines(summaries[:2]))
