"""Which FlashAttention is taken, where there are several, and what compiling needs."""

import pytest
import torch
from torch.nn.attention import _registry

from exactcpt.schemas.errors import UsageError
from exactcpt.training.models import kernels, loss
from exactcpt.training.models.attention import check_head_size
from exactcpt.training.models.folder import head_size
from exactcpt.training.models.kernels import attention_kernel, can_compile

GPU = torch.device("cuda", 0)


class Handle:
    def remove(self) -> None:
        pass


def install(monkeypatch, **functions):
    monkeypatch.setattr(_registry, "_FLASH_ATTENTION_IMPLS", functions)
    monkeypatch.setattr(_registry, "_FLASH_ATTENTION_ACTIVE", None)


def missing():
    raise ImportError("no module named flash_attn_interface")


def unfit():
    raise RuntimeError("Module 'flash_attn_interface' does not expose FA3 kernels")


@pytest.mark.parametrize(
    ("capability", "installed", "taken"),
    [
        ((9, 0), {"FA3": Handle, "FA4": Handle}, "FA3"),
        ((10, 0), {"FA3": Handle, "FA4": Handle}, "FA4"),
        ((8, 0), {"FA3": Handle, "FA4": Handle}, "FA2"),
        ((9, 0), {"FA3": missing, "FA4": Handle}, "FA2"),
        ((9, 0), {"FA3": unfit}, "FA2"),
        ((9, 0), {}, "FA2"),
    ],
)
def test_the_attention_that_is_made_for_the_device(monkeypatch, capability, installed, taken):
    install(monkeypatch, **installed)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert attention_kernel("varlen", GPU) == taken
    assert attention_kernel("flex", GPU) is None
    assert attention_kernel("varlen", torch.device("cpu")) is None


def test_torch_has_what_is_activated():
    assert {"FA3", "FA4"} <= set(torch.nn.attention.list_flash_attention_impls())


@pytest.mark.parametrize(
    ("triton", "compilers", "can"),
    [(True, ["gcc"], True), (True, ["clang"], True), (True, [], False), (False, ["gcc"], False)],
)
def test_kernels_are_made_by_triton_and_a_c_compiler(monkeypatch, triton, compilers, can):
    monkeypatch.setattr(kernels, "find_spec", lambda _: triton or None)
    monkeypatch.setattr(kernels, "which", lambda name: name if name in compilers else None)
    assert can_compile() is can
    if not can:
        loss._kernel.cache_clear()
        assert not loss.has_kernel()
        loss._kernel.cache_clear()


@pytest.mark.parametrize(
    ("backend", "size", "expected", "other"),
    [
        ("varlen", 20, "a multiple of 8, at most 256, for attention 'varlen'", "flex"),
        ("varlen", 264, "a multiple of 8, at most 256, for attention 'varlen'", "flex"),
        ("flex", 8, "at least 16, for attention 'flex'", "exact"),
    ],
)
def test_heads_that_a_kernel_refuses(backend, size, expected, other):
    with pytest.raises(UsageError) as caught:
        check_head_size(backend, size, where="model/config.json")
    assert caught.value.found == f"the model has attention heads of size {size}"
    assert (caught.value.expected, caught.value.fix) == (expected, f"--attention {other}")


def test_heads_that_kernels_take():
    for backend, size in (("varlen", 64), ("varlen", 256), ("flex", 20), ("exact", 3), ("cpu", 5)):
        check_head_size(backend, size, where=None)
    check_head_size("varlen", None, where=None)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"head_dim": 128, "hidden_size": 896, "num_attention_heads": 14}, 128),
        ({"hidden_size": 896, "num_attention_heads": 14}, 64),
        ({"head_dim": None, "hidden_size": 64, "num_attention_heads": 4}, 16),
        ({"hidden_size": 64, "num_attention_heads": 0}, None),
        ({}, None),
    ],
)
def test_the_size_of_a_head(config, size):
    assert head_size(config) == size
