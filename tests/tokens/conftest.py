from pathlib import Path

import pytest

from exactcpt.pipeline.tokens.tokenizer import TokenizerFile, load_tokenizer

SHARED = ("qwen2_5", "llama3_1", "gpt2")


@pytest.fixture(scope="session")
def bundled(data: Path) -> TokenizerFile:
    return load_tokenizer(str(data))


@pytest.fixture(scope="session", params=["bundled", *SHARED])
def tokenizer(request, data: Path) -> TokenizerFile:
    if request.param == "bundled":
        return load_tokenizer(str(data / "tokenizer.json"))
    return load_tokenizer(str(request.getfixturevalue("shared") / "tokenizers" / request.param))
