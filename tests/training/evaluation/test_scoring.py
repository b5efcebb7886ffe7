"""Scores are those of plain transformers, however prompts are batched and cached."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from evaluations import Uncached, Unigram
from hypothesis import given
from hypothesis import strategies as st
from models import tiny_config
from tiny import model_folder
from transformers import AutoModelForCausalLM, GPT2Config

from exactcpt.schemas.errors import ExactcptError, FormatError, UsageError
from exactcpt.training.evaluation import scoring
from exactcpt.training.evaluation.models import (
    FolderModel,
    device_of,
    is_out_of_memory,
)
from exactcpt.training.evaluation.scoring import (
    Halving,
    _losses,
    answer_scores,
    batches,
    losses,
    nearly_alike,
)

CPU = torch.device("cpu")
KINDS = {
    "llama": {},
    "qwen3": {},
    "mistral": {"sliding_window": 16},
    "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
}
"""The last two have layers that see 16 tokens."""


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return model_folder(
        tmp_path_factory.mktemp("model") / request.param, kind=request.param, **KINDS[request.param]
    )


@pytest.fixture(scope="module")
def model(folder):
    return FolderModel(folder, CPU, "fp32")


def prompts(count, length, answers=8, m=3, seed=0):
    draw = np.random.default_rng(seed)
    ids = [draw.integers(0, 4096, length).astype(np.int32) for _ in range(count)]
    return ids, draw.integers(0, 4096, (count, answers, m)).tolist()


def expected(folder, prompt, answer):
    """Plain transformers on the whole text, token by token."""
    plain = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    ids = torch.tensor([[*prompt.tolist(), *answer]])
    with torch.no_grad():
        found = torch.log_softmax(plain(input_ids=ids, use_cache=False).logits[0], dim=-1)
    return sum(found[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))


@pytest.mark.parametrize("m", [1, 4])
def test_scores_are_log_probabilities(folder, model, m):
    ids, answers = prompts(2, 50, answers=3, m=m)
    scores = answer_scores(model, ids, answers)
    for i, prompt in enumerate(ids):
        for r, answer in enumerate(answers[i]):
            assert scores[i, r] == pytest.approx(expected(folder, prompt, answer), abs=1e-4)


def test_batched_is_single(model):
    ids, answers = prompts(5, 70)
    together = answer_scores(model, ids, answers)
    for i in range(5):
        alone = answer_scores(model, ids[i : i + 1], answers[i : i + 1])
        assert together[i] == pytest.approx(alone[0], abs=1e-4)


@pytest.mark.parametrize("folder", ["llama", "qwen3"], indirect=True)
@pytest.mark.parametrize("m", [1, 3])
def test_prompts_of_several_lengths(model, m):
    """Padding behind shorter prompts changes nothing."""
    ids, answers = prompts(4, 60, m=m)
    ids = [prompt[:n] for prompt, n in zip(ids, (60, 47, 59, 60), strict=True)]
    together = answer_scores(model, ids, answers)
    for i in range(4):
        alone = answer_scores(Uncached(model), ids[i : i + 1], answers[i : i + 1])
        assert together[i] == pytest.approx(alone[0], abs=1e-4)


@pytest.mark.parametrize("folder", ["llama", "qwen3"], indirect=True)
@pytest.mark.parametrize("seen", [False, True])
def test_padding_that_is_seen_would_be_seen(model, monkeypatch, seen):
    ids, answers = prompts(2, 40)
    ids[1] = ids[1][:33]
    right = model.read
    read = torch.tensor([40, 40])

    def confused(tokens, lengths):
        first, memory = right(tokens, lengths)
        return first, replace(memory, lengths=read if seen else lengths)

    alone = answer_scores(Uncached(model), ids[1:], answers[1:])
    monkeypatch.setattr(model, "read", confused)
    difference = np.abs(answer_scores(model, ids, answers)[1] - alone[0]).max()
    assert (difference > 1e-2) == seen


LONGEST_COUNTS = {
    "dynamic": {"factor": 4.0},
    "longrope": {
        "factor": 4.0, "original_max_position_embeddings": 50,
        "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
    },
}  # fmt: skip
"""Rotary embeddings in which the longest position of a batch counts."""


@pytest.mark.parametrize("rope_type", LONGEST_COUNTS)
def test_a_model_in_which_others_would_be_seen_pads_nothing(tmp_path, rope_type):
    """Its prompts and sequences are those of one length; each is as it is alone."""
    rope = {"rope_type": rope_type, "rope_theta": 1e4, **LONGEST_COUNTS[rope_type]}
    changes = {"max_position_embeddings": 50, "initializer_range": 0.3, "rope_parameters": rope}
    folder = model_folder(tmp_path / "m", **changes)
    model = FolderModel(folder, CPU, "fp32")
    assert not model.pads and not model.pads_prompts
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, 4096, n).astype(np.int32) for n in (90, 48, 90, 47)]
    together = losses(model, sequences, 1000, Halving())
    for found, sequence in zip(together, sequences, strict=True):
        assert found == pytest.approx(losses(model, [sequence], 1000, Halving())[0], abs=1e-5)
    padded = _losses(model, sequences[:2])
    assert padded[1] != pytest.approx(together[1], abs=1e-3)


def test_answers_of_any_lengths(model):
    """Padding behind shorter answers changes nothing, whatever stands beside them."""
    ids, _ = prompts(3, 40)
    draw = np.random.default_rng(1)
    lengths = [(1, 5, 2), (3, 1, 1), (4, 2, 1)]
    answers = [[draw.integers(0, 4096, n).tolist() for n in row] for row in lengths]
    together = answer_scores(model, ids, answers)
    for i, row in enumerate(answers):
        for r, answer in enumerate(row):
            alone = answer_scores(model, ids[i : i + 1], [[answer]])
            assert together[i, r] == pytest.approx(alone[0, 0], abs=1e-4)


@pytest.mark.parametrize("at_once", [1, 3, 8])
def test_cached_is_uncached(model, at_once, monkeypatch):
    """However many answers stand side by side: the memory stays that of the prompts."""
    ids, answers = prompts(3, 40)
    logits = 4 * 4096 * 3 * 2  # bytes, of one answer to each prompt
    monkeypatch.setattr(scoring, "LOGIT_BYTES", at_once * logits)
    calls = []
    plain = model.go_on
    monkeypatch.setattr(model, "go_on", lambda *given: calls.append(given) or plain(*given))
    assert answer_scores(model, ids, answers) == pytest.approx(
        answer_scores(Uncached(model), ids, answers), abs=1e-4
    )
    assert len(calls) == -(-8 // at_once)


def test_a_memory_that_keeps_an_answer_would_be_seen(model, monkeypatch):
    """Unless a mask says what the prompt is, and hides all that is behind it."""
    monkeypatch.setattr("transformers.DynamicCache.crop", lambda *_: None)
    monkeypatch.setattr(scoring, "LOGIT_BYTES", 1)  # one answer after the other
    ids, answers = prompts(3, 40)
    kept, fresh = (answer_scores(each, ids, answers) for each in (model, Uncached(model)))
    assert np.abs(kept[:, 0] - fresh[:, 0]).max() < 1e-4
    assert (np.abs(kept[:, 1:] - fresh[:, 1:]).max() > 1e-2) == (not model.takes_masks)


@pytest.mark.parametrize("seen", [lambda own: torch.ones_like(own), lambda own: own.tril()])
def test_answers_that_saw_each_other_would_be_seen(model, monkeypatch, seen):
    """Everything, or all that stands before."""
    monkeypatch.setattr(torch, "block_diag", lambda *own: seen(torch.ones(16, 16, dtype=bool)))
    ids, answers = prompts(2, 40)
    found, fresh = (answer_scores(each, ids, answers) for each in (model, Uncached(model)))
    difference = np.abs(found - fresh).max()
    assert (difference > 1e-2) == model.takes_masks


def test_which_models_read_answers_side_by_side(folder, model):
    """Those whose layers see whatever a mask says; they also read prompts of several lengths."""
    assert model.pads
    assert model.takes_masks == model.pads_prompts == (folder.name in ("llama", "qwen3"))


def test_a_model_of_another_kind(tmp_path):
    """It has learned positions, and no masks are given to it."""
    config = GPT2Config(vocab_size=4096, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    model = FolderModel(tmp_path, CPU, "fp32")
    assert model.pads and not model.pads_prompts
    ids, answers = prompts(2, 40)
    assert answer_scores(model, ids, answers) == pytest.approx(
        answer_scores(Uncached(model), ids, answers), abs=1e-4
    )


def test_losses_are_those_of_each_sequence_alone(folder, model):
    """They are padded together, longest first; the answer is in the order of the question."""
    draw = np.random.default_rng(0)
    sequences = [draw.integers(0, 4096, n).astype(np.int32) for n in (2, 30, 7, 64, 31)]
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    for found, sequence in zip(losses(model, sequences, 100, Halving()), sequences, strict=True):
        ids = torch.from_numpy(sequence.astype(np.int64))
        with torch.no_grad():
            logits = plain(input_ids=ids[None], use_cache=False).logits[0, :-1]
        ce = F.cross_entropy(logits, ids[1:], reduction="none")
        assert found == pytest.approx(ce.numpy(), abs=1e-4)


def test_bf16_is_close(folder, model):
    ids, answers = prompts(2, 50)
    rounded = answer_scores(FolderModel(folder, CPU, "bf16"), ids, answers)
    assert rounded == pytest.approx(answer_scores(model, ids, answers), rel=0.1)


@given(
    lengths=st.lists(st.integers(1, 9), max_size=40),
    tokens=st.integers(1, 30),
)
def test_batches_have_all_rows_once_and_one_shape(lengths, tokens):
    rows = list(enumerate(lengths))
    made = list(batches(rows, lambda row: (row[1],), tokens))
    assert sorted(row for batch in made for row in batch) == rows
    for batch in made:
        assert len({length for _, length in batch}) == 1
        assert len(batch) == 1 or len(batch) * batch[0][1] <= tokens
    shapes = [batch[0][1] for batch in made]
    assert shapes == sorted(shapes, reverse=True)


@given(
    lengths=st.lists(st.integers(1, 500), max_size=40),
    tokens=st.integers(1, 3000),
)
def test_batches_with_padding(lengths, tokens):
    """All rows once, one kind in a batch, at most 1% of padding, longest first."""
    rows = list(enumerate(lengths))
    made = list(nearly_alike(rows, lambda row: (row[1], row[0] % 2), tokens))
    assert sorted(row for batch in made for row in batch) == rows
    for batch in made:
        assert len({number % 2 for number, _ in batch}) == 1
        longest = max(length for _, length in batch)
        assert batch[0][1] == longest
        assert len(batch) == 1 or len(batch) * longest <= tokens
        assert all(longest - length <= longest / 100 for _, length in batch)


def greedy(folder, prompt, most, ends=()):
    """Plain transformers on the whole text, token by token."""
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = prompt.tolist()
    for _ in range(most):
        with torch.no_grad():
            logits = plain(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        token = int(logits.argmax())
        if token in ends:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("lengths", [(30,), (40, 40, 40), (60, 59, 58)])
def test_written_is_greedy(folder, model, lengths):
    """In batches too, and with shorter prompts beside longer ones."""
    draw = np.random.default_rng(2)
    ids = [draw.integers(0, 4096, n).astype(np.int32) for n in lengths]
    assert model.write(ids, 6) == [greedy(folder, prompt, 6) for prompt in ids]


def test_what_is_written_ends_where_the_model_ends_it(tmp_path):
    folder = model_folder(tmp_path / "model")
    ids, _ = prompts(2, 30)
    free = [greedy(folder, prompt, 6) for prompt in ids]
    ends = [free[0][2], free[1][4]]
    path = folder / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": ends, "do_sample": True, "top_k": 3,
                                "repetition_penalty": 9.0}))  # fmt: skip
    found = FolderModel(folder, CPU, "fp32").write(ids, 6)
    assert found == [greedy(folder, prompt, 6, ends) for prompt in ids]
    assert [len(each) for each in found] != [6, 6]


class Small:
    """Work that fails for more than some rows at a time."""

    def __init__(self, rows, error):
        self.rows, self.error, self.sizes = rows, error, []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.rows:
            raise self.error
        return [10 * row for row in batch]


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: type(e).__name__)
def test_out_of_memory_halves_the_batch_for_good(error):
    work, halving = Small(3, error), Halving()
    assert halving(work, range(8)) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert work.sizes == [8, 4, 2, 2, 2, 2]
    assert halving(work, range(8)) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert work.sizes == [8, 4, *[2] * 8]


def test_memory_for_nothing():
    with pytest.raises(ExactcptError, match="the memory is not enough for one prompt at a time"):
        Halving()(Small(0, OUT_OF_MEMORY[0]), range(8))


def test_other_errors_pass():
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not is_out_of_memory(error)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        Halving()(Small(3, error), range(8))


def test_scores_that_are_no_numbers():
    model = Unigram(10)
    model.likes[3] = float("nan")
    with pytest.raises(ExactcptError, match="the model gives scores that are no numbers"):
        answer_scores(model, [np.array([1], np.int32)], [[[2]]])


def test_weights_that_lack_a_tensor(tmp_path):
    model = model_folder(tmp_path / "model")
    config = tiny_config(vocab_size=4096, num_hidden_layers=3)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(model)
    with pytest.raises(FormatError, match=r"the weights lack model\.layers\.2\."):
        FolderModel(model, CPU, "fp32")


def test_a_model_of_no_known_type(tmp_path):
    path = model_folder(tmp_path / "model") / "config.json"
    path.write_text(path.read_text().replace('"model_type": "llama"', '"model_type": "nothing"'))
    with pytest.raises(FormatError, match="the model cannot be loaded"):
        FolderModel(path.parent, CPU, "fp32")


def test_devices(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == CPU
    with pytest.raises(UsageError, match="there is no CUDA device"):
        device_of("cuda")
