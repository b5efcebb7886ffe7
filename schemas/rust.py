"""Errors of libraries that are written in Rust, such as tokenizers."""

__all__ = ["is_of_library"]


def is_of_library(error: BaseException) -> bool:
    """Whether a library may have raised it; the panics of Rust are not Exceptions."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
