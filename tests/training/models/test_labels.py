"""Labels with weights: what may be done with them, and who is refused."""

import copy
import pickle

import numpy as np
import pytest
import torch
from models import KINDS, packed, tiny_config
from tiny import shard_set
from torch.nn.functional import cross_entropy, pad
from torch.utils.data import DataLoader, default_collate
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForLanguageModeling,
    DataCollatorWithFlattening,
    PreTrainedTokenizerFast,
    default_data_collator,
)

from exactcpt.schemas.errors import UsageError
from exactcpt.training.models.labels import WeightedLabels, plain
from exactcpt.training.models.loss import IGNORE, shift
from exactcpt.training.windows.batches import ShardDataset, collate

REFUSED = "these labels have loss weights, which"
NUMBERS = torch.tensor([[-100, 5, 6, -100, 7]])


@pytest.fixture
def labels() -> WeightedLabels:
    return WeightedLabels(NUMBERS)


def test_they_move_are_cut_and_are_stacked(labels):
    assert torch.equal(plain(labels.to("cpu")), NUMBERS)
    assert torch.equal(plain(labels[..., 1:]), NUMBERS[..., 1:])
    assert torch.equal(plain(labels[0]), NUMBERS[0])
    assert torch.equal(plain(torch.stack([labels, labels])), torch.stack([NUMBERS, NUMBERS]))
    for copied in (copy.deepcopy(labels), pickle.loads(pickle.dumps(labels))):
        assert isinstance(copied, WeightedLabels)
        assert torch.equal(copied.plain, NUMBERS)
    assert (labels.shape, labels.dtype, labels.device, len(labels)) == (
        (1, 5), torch.int64, torch.device("cpu"), 1
    )  # fmt: skip


def test_they_say_where_targets_are(labels):
    expected = NUMBERS != IGNORE
    for found in (labels != IGNORE, labels.ne(IGNORE), ~(labels == IGNORE)):
        assert type(found) is torch.Tensor
        assert torch.equal(found, expected)
    assert torch.equal(labels, NUMBERS)
    assert torch.equal(NUMBERS, labels)
    assert (labels == NUMBERS).all()
    assert torch.eq(NUMBERS, labels).all()
    assert torch.equal(NUMBERS.ne(labels), torch.zeros(1, 5, dtype=torch.bool))


def test_a_shift_with_the_weights_makes_tensors(labels):
    weights = torch.arange(5.0)[None]
    for found, expected in zip(shift(labels, weights), shift(NUMBERS, weights), strict=True):
        assert type(found) is torch.Tensor
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("pad", lambda labels: pad(labels, (0, 1), value=IGNORE)),
        ("cross_entropy", lambda labels: cross_entropy(torch.zeros(5, 9), labels[0])),
        ("cat", lambda labels: torch.cat([labels, labels])),
        ("tolist", lambda labels: labels.tolist()),
        ("tolist", lambda labels: labels[0, 1].tolist()),
        ("torch.tensor", lambda labels: torch.tensor(labels)),
        ("torch.tensor", lambda labels: torch.as_tensor([labels])),
        ("an array of NumPy", lambda labels: np.array(labels)),
        ("iteration", lambda labels: list(labels)),
        ("a choice of labels by a tensor", lambda labels: labels[labels != IGNORE]),
        ("iteration", lambda labels: torch.zeros(9)[labels]),
        ("gather", lambda labels: torch.zeros(1, 9).gather(1, labels)),
    ],
)
def test_what_loses_the_weights_is_refused(labels, name, use):
    with pytest.raises(UsageError, match=REFUSED) as refused:
        use(labels)
    assert f"`{name}`" in str(refused.value)
    assert "exactcpt.training.adapters.flatten" in str(refused.value)
    assert "weighted_loss" in str(refused.value)


@pytest.mark.parametrize("method", ["clamp", "masked_fill", "view", "long", "numpy"])
def test_methods_of_tensors_are_refused(labels, method):
    with pytest.raises(AttributeError, match=f"{REFUSED} `{method}`"):
        getattr(labels, method)


@pytest.fixture(scope="module")
def windows(tmp_path_factory) -> ShardDataset:
    return ShardDataset(shard_set(tmp_path_factory.mktemp("labels") / "shards"))


def test_samples_and_batches_have_them(windows):
    for labels in (windows[0]["labels"], collate([windows[0], windows[1]])["labels"]):
        assert isinstance(labels, WeightedLabels)


def tokenizer(windows: ShardDataset) -> PreTrainedTokenizerFast:
    found = PreTrainedTokenizerFast(tokenizer_file=str(windows.shards.tokenizer))
    found.pad_token = found.convert_ids_to_tokens(0)
    return found


def trl_collator():
    trl = pytest.importorskip("trl.trainer.sft_trainer")
    return trl.DataCollatorForLanguageModeling


FOREIGN = {
    "flattening": lambda windows: DataCollatorWithFlattening(),
    "flattening, with boundaries": lambda windows: DataCollatorWithFlattening(
        return_flash_attn_kwargs=True
    ),
    "language modeling": lambda windows: DataCollatorForLanguageModeling(
        tokenizer(windows), mlm=False
    ),
    "default": lambda windows: default_data_collator,
    "trl": lambda windows: trl_collator()(pad_token_id=0),
    "trl, without padding": lambda windows: trl_collator()(pad_token_id=0, padding_free=True),
}


@pytest.mark.filterwarnings("ignore:To copy construct from a tensor:UserWarning")
@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("numbers", [[0], [0, 1]])
def test_collators_that_know_no_weights_are_refused(windows, name, numbers):
    collator = FOREIGN[name](windows)
    with pytest.raises((UsageError, ValueError)) as refused:
        collator([windows[number] for number in numbers])
    # A tokenizer puts an error of its own before it.
    error = refused.value if isinstance(refused.value, UsageError) else refused.value.__cause__
    assert isinstance(error, UsageError)
    assert "exactcpt.training.adapters.flatten" in str(error)


def test_torchs_own_collator_is_refused(windows):
    with pytest.raises(TypeError, match="WeightedLabels"):
        default_collate([windows[0]])
    with pytest.raises(TypeError, match="WeightedLabels"):
        next(iter(DataLoader(windows)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_would_compute_its_own_loss_is_refused(windows, kind):
    model = AutoModelForCausalLM.from_config(tiny_config(kind))
    batch = collate([windows[0]])
    with pytest.raises(UsageError, match="compute the loss with weighted_loss"):
        model(**batch)
    with pytest.raises(UsageError, match="compute the loss with weighted_loss"):
        model(**batch, num_items_in_batch=torch.tensor(3))


def test_without_them_a_model_computes_its_own_loss():
    """What the refusal is for: a Hugging Face model takes the weights and ignores them."""
    model = AutoModelForCausalLM.from_config(tiny_config())
    batch = packed([[20, 28]])
    assert model(**batch).loss == model(**{**batch, "loss_weights": None}).loss
