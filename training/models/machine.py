"""What this machine offers to training; `exactcpt doctor` finds it by its entry point."""

from typing import Any

import torch

from .attention import BACKENDS, default_backend
from .kernels import attention_kernel, can_compile
from .loss import has_kernel

__all__ = ["machine"]

NEEDS_CUDA = "needs a CUDA device"
ON_CUDA = "auto takes varlen, which is faster"
REASONS = {
    "cpu": {
        "varlen": NEEDS_CUDA,
        "flex": "on a CPU it has no backward pass: for evaluation alone",
        "exact": "the slow reference of the others",
    },
    "cuda": {
        "flex": ON_CUDA,
        "cpu": "for CPUs alone",
        "exact": "the slow reference of the others",
    },
}
"""Why auto does not take a backend, by the type of the device."""


def machine() -> dict[str, Any]:
    """The devices, and the attention backend that `--attention auto` takes, as JSON values.

    Returns:
        `cuda`, the version that torch was built for, or None; `devices`, the names of the CUDA
        devices that torch can use; `attention`, the backend; `attention_kernel`, what it runs, or
        None if it has no choice; `not_attention`, each other backend and why it is not taken;
        `compiles`, whether a CUDA device gets compiled blocks; `loss_kernel`, whether it gets the
        loss in one kernel.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count = torch.cuda.device_count() if device == "cuda" else 0
    taken = default_backend(device)
    return {
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(i) for i in range(count)],
        "attention": taken,
        "attention_kernel": attention_kernel(taken, torch.device(device)),
        "not_attention": {name: REASONS[device][name] for name in BACKENDS if name != taken},
        "compiles": can_compile(),
        "loss_kernel": has_kernel(),
    }
