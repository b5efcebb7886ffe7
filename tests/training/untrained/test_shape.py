"""The sizes of an untrained model follow from its width."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.errors import UsageError
from exactcpt.training.untrained.shape import Shape


@pytest.mark.parametrize(
    ("hidden", "layers", "heads", "intermediate"),
    [(64, 2, 4, 192), (256, 4, 4, 704), (768, 12, 12, 2048), (4096, 64, 64, 10944)],
)
def test_sizes_by_width(hidden, layers, heads, intermediate):
    assert Shape(hidden=hidden).config() == {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": intermediate,
        "max_position_embeddings": 32_768,
    }


@given(st.integers(1, 1024))
def test_every_multiple_of_64_is_a_width(units):
    config = Shape(hidden=64 * units).config()
    assert config["hidden_size"] == config["num_attention_heads"] * min(64, 16 * units)
    assert 0 <= 3 * config["intermediate_size"] - 8 * config["hidden_size"] < 3 * 64


def test_what_is_given_is_taken():
    given = Shape(hidden=96, layers=1, heads=6, kv_heads=2, intermediate=10, positions=50).config()
    assert [*given.values()] == ["llama", 96, 1, 6, 2, 10, 50]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"hidden": 100}, "hidden is 100 with 4 heads"),
        ({"hidden": 64, "heads": 5}, "hidden is 64 with 5 heads"),
        ({"hidden": 64, "kv_heads": 3}, "kv_heads is 3 with 4 heads"),
        ({"hidden": 64, "kv_heads": 8}, "kv_heads is 8 with 4 heads"),
        ({"hidden": 0}, "hidden is 0"),
        ({"layers": 0}, "layers is 0"),
        ({"positions": 1}, "positions is 1"),
    ],
)
def test_sizes_that_make_no_model(sizes, found):
    with pytest.raises(UsageError) as caught:
        Shape(**sizes)
    assert caught.value.found == found
