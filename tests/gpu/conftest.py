"""Where these tests run: on the first CUDA device, on a CPU if asked to, or nowhere."""

import os

import pytest

# cuBLAS reads it once, when the device is first used; deterministic products need it.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

ON_CPU = "EXACTCPT_GPU_TESTS_ON_CPU"
"""Set by `run.py --quick`: what needs no GPU in these tests is tried on a CPU, in small."""


@pytest.fixture(scope="session")
def device() -> str:
    """The type of the device to try."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if ON_CPU in os.environ:
        return "cpu"
    pytest.skip("no CUDA device")


@pytest.fixture
def gpu(device: str) -> str:
    """A device that is a GPU."""
    if device != "cuda":
        pytest.skip("no CUDA device")
    return device
