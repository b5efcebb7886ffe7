"""The weights of a model's folder, looked through before any library loads them.

They come from strangers too: what is refused here is what a library would run (pickles), load as
other weights than the model's own, or report in words of its own. It is a module of its own because
safetensors comes with the extra `train`, and the folder is also read without it.
"""

from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ...schemas.disk import is_file_name
from ...schemas.errors import FormatError, UsageError
from ...schemas.pointers import refuse_pointers
from ...schemas.regular import check_regular
from .folder import CONFIG, json_object, quantized

__all__ = ["INDEX", "WEIGHTS", "check_weights"]

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
GGUF = "*.gguf"
NUMBERS = {"F64", "F32", "F16", "BF16"}
"""Types of weights, as safetensors names them, whose numbers are the weights themselves."""


def check_weights(model: Path) -> None:
    """Checks that a folder has all files of its weights, and that nothing else passes for them.

    Reads the headers of the files and none of the weights.

    Raises:
        UsageError: the weights are pickles, of a format of other programs, or quantized.
        FormatError: a file is missing, damaged or no ordinary one, or two files have one tensor.
        ExactcptError: a file is a pointer of Git LFS or git-annex.
    """
    refuse_pointers(model.glob("*.safetensors"))
    seen: dict[str, Path] = {}
    for path in _weight_files(model):
        for name, kind in _tensors(path):
            if name in seen:
                raise FormatError(
                    f"two files have the tensor {name}: {seen[name].name} and {path.name}",
                    where=str(model),
                    fix="keep the files of one model",
                )
            seen[name] = path
            if kind not in NUMBERS:
                raise quantized(f"{name} is stored as {kind}", path)


def _weight_files(model: Path) -> list[Path]:
    """The files that have the weights: one, or those that an index names."""
    if "transformers_weights" in json_object(model / CONFIG, "the model's config.json"):
        raise UsageError(
            "config.json says in transformers_weights which file has the weights",
            where=str(model / CONFIG),
            expected=f"{WEIGHTS}, or several files with {INDEX}",
            fix=f"give the file that name, and remove transformers_weights from {CONFIG}",
        )
    if (model / WEIGHTS).exists():
        return [model / WEIGHTS]
    if (model / INDEX).exists():
        return _indexed(model)
    pickles = sorted(path.name for pattern in PICKLES for path in model.glob(pattern))
    if pickles:
        raise UsageError(
            f"the model's weights are pickles, which can run code: {pickles[0]}",
            where=str(model),
            expected=f"{WEIGHTS}, or several files with {INDEX}",
            fix="if you trust them, save them once as safetensors: "
            "AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)",
        )
    if any(model.glob(GGUF)):
        raise UsageError(
            "the model's weights are in the GGUF format",
            where=str(model),
            expected=f"{WEIGHTS}, or several files with {INDEX}",
            fix="take the model that this one was made from",
        )
    raise FormatError(
        "the folder has no weights",
        where=str(model),
        expected=f"{WEIGHTS}, or several files with {INDEX}",
        fix="download the model again",
    )


def _indexed(model: Path) -> list[Path]:
    places = json_object(model / INDEX, "the index of the model's weights").get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(n, str) for n in places.values()):
        raise FormatError(
            "the index of the model's weights does not say which file has which tensor",
            where=str(model / INDEX),
            expected="weight_map, from the names of tensors to names of files",
            fix="download the model again",
        )
    names = sorted(set(places.values()))
    for name in names:
        if not is_file_name(name):
            raise FormatError(
                f"the index of the model's weights names {name!r}, which is not in the folder",
                where=str(model / INDEX),
                expected="names of files beside it",
            )
    missing = [name for name in names if not (model / name).is_file()]
    if missing:
        raise FormatError(
            f"{len(missing):,} of {len(names):,} files of the model's weights are missing, the "
            f"first is {missing[0]}",
            where=str(model),
            fix="download the model again",
        )
    return [model / name for name in names]


def _tensors(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the type of each tensor in a file."""
    check_regular(path)
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                yield name, file.get_slice(name).get_dtype()
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"the model's weights cannot be read: {error}",
            where=str(path),
            expected=f"{WEIGHTS}, or several files with an index",
            fix="download the model again",
        ) from None
