"""Which kernels a CUDA device gets beyond those of PyTorch itself.

PyTorch's variable-length attention runs FlashAttention 2 until a newer one is activated. Those that
are made for a generation of devices are up to twice as fast there; they are packages of their own.
"""

from importlib.util import find_spec
from shutil import which
from typing import Any

import torch
import torch.nn.attention

__all__ = ["attention_kernel", "can_compile"]

FLASH = {9: "FA3", 10: "FA4"}
"""The FlashAttention that is made for devices of a compute capability, by its first number."""

FLASH_2 = "FA2"


def attention_kernel(backend: str, device: torch.device) -> str | None:
    """The kernel of an attention backend on a device; a newer FlashAttention is activated.

    Args:
        backend: one of `attention.BACKENDS`.
        device: where it will run.

    Returns:
        "FA3" or "FA4" where it is made for the device and can be imported, else "FA2"; None for
        any other backend than `varlen`.
    """
    if backend != "varlen" or device.type != "cuda":
        return None
    wanted = FLASH.get(torch.cuda.get_device_capability(device)[0])
    module: Any = torch.nn.attention
    if wanted is not None and wanted in module.list_flash_attention_impls():
        try:
            module.activate_flash_attention_impl(wanted)
        except (ImportError, RuntimeError):  # it is not installed, or it is for another PyTorch
            module.restore_flash_attention_impl(_raise_warn=False)
    return module.current_flash_attention_impl() or FLASH_2


def can_compile() -> bool:
    """Whether `torch.compile` can make kernels for CUDA: it needs Triton and a C compiler."""
    return find_spec("triton") is not None and any(map(which, ("cc", "gcc", "clang")))
