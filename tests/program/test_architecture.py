"""Imports point one way: a room imports the rooms below it, and no other.

The list `ROOMS` is the order. `pipeline` and `training` share `schemas`; neither imports the other.
Libraries that are slow to import are imported where they are used. Sources are read, not run.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[2]

# From the ground up. A room imports itself and what stands on the lines above its own; rooms on
# one line do not know each other.
ROOMS = (
    ("schemas", "pipeline.core"),
    (
        "pipeline.files",
        "pipeline.terminal",
        "pipeline.verify",
        "training.config",
        "training.options",
    ),
    ("pipeline.sources", "training.models"),
    ("pipeline.config",),
    ("pipeline.job", "training.windows"),
    (
        "pipeline.beam",
        "pipeline.shard_set",
        "training.adapters",
        "training.hf_trainer",
        "training.run",
    ),
    (
        "pipeline.tokens",
        "pipeline.show",
        "pipeline.api",
        "pipeline.convert",
        "training.train",
        "training.checks",
        "training.evaluation",
        "training.untrained",
    ),
    ("pipeline.pack", "training.comparison"),
    ("pipeline.weigh",),
    ("pipeline.inspection", "training.cli", "training.study"),
    ("pipeline.publish",),
    ("pipeline.commands",),
    ("pipeline.cli", "pipeline.exactcpt"),
)
# The package itself: what `import exactcpt` imports.
ROOT = "pipeline/exactcpt"
HALVES = {"pipeline", "training"}
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
CORE_LIBRARIES = {"numpy"}
# What checks the output knows the format, not what wrote it.
ONLY_SCHEMAS = {"pipeline.verify"}


class Where(NamedTuple):
    """Rooms, or modules of them, in which a slow library may be imported."""

    at_top: set[str]
    in_functions: set[str]


GRAPHS = {
    "pipeline.beam",
    "pipeline.pack.graph",
    "pipeline.tokens.graph",
    "pipeline.weigh.graph",
}
SLOW_LIBRARIES = {
    "apache_beam": Where(at_top=GRAPHS, in_functions=GRAPHS),
    "datasets": Where(at_top=set(), in_functions={"pipeline.sources", "training"}),
    "huggingface_hub": Where(
        at_top=set(),
        in_functions={
            "pipeline.publish",
            "pipeline.sources",
            "schemas.hub",
            "training.models.saving",
        },
    ),
    "torch": Where(
        at_top={"training", "pipeline.api.tensors"}, in_functions={"training", "pipeline.api"}
    ),
    "transformers": Where(at_top={"training"}, in_functions={"training"}),
    "vl_convert": Where(at_top=set(), in_functions={"pipeline.inspection", "training"}),
}
NOT_FOR_THE_CLI = {"apache_beam", "datasets", "numpy", "pyarrow", "torch", "vl_convert"}


class Import(NamedTuple):
    target: str  # dotted, absolute; a module of ours without the leading `exactcpt.`
    line: int
    at_top: bool  # runs when the module is imported


def imports_of(tree: ast.Module, package: str) -> Iterator[Import]:
    def walk(node: ast.AST, at_top: bool) -> Iterator[Import]:
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(alias.name.removeprefix("exactcpt."), node.lineno, at_top)
            case ast.ImportFrom():
                for target in targets_of(node, package):
                    yield Import(target.removeprefix("exactcpt."), node.lineno, at_top)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from below(node.body, False)
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                yield from below(node.body, False)
                yield from below(node.orelse, at_top)
            case _:
                yield from below(ast.iter_child_nodes(node), at_top)

    def below(nodes: Iterable[ast.AST], at_top: bool) -> Iterator[Import]:
        for node in nodes:
            yield from walk(node, at_top)

    return walk(tree, True)


def targets_of(node: ast.ImportFrom, package: str) -> list[str]:
    """`from . import a, b` names modules; `from .a import f` may name a module or what it has."""
    base = ["exactcpt", *package.split(".")][: -node.level + 1 or None] if node.level else []
    module = ".".join([*base, *filter(None, [node.module])])
    if not module.startswith("exactcpt"):
        return [module]
    return [f"{module}.{alias.name}" for alias in node.names]


def is_in(module: str, room: str) -> bool:
    return f"{module}.".startswith(f"{room}.")


def room_of(module: str) -> str | None:
    return next((room for room in FLOOR if is_in(module, room)), None)


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of one module, given its path below the repository."""
    is_package = path.endswith("/__init__.py")
    module = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    room = room_of(module)
    if room is None:
        return [] if module in HALVES else [f"{path} is in no room: add it to ROOMS"]
    found = []
    package = module if is_package else module.rpartition(".")[0]
    for target, line, at_top in imports_of(ast.parse(source), package):
        if problem := problem_with(module, room, target, at_top):
            found.append(f"{path}:{line}: {problem}")
    return found


def problem_with(module: str, room: str, target: str, at_top: bool) -> str | None:
    library = target.partition(".")[0]
    if library in {"pipeline", "schemas", "training"}:
        other = room_of(target)
        return None if may_import(room, other) else f"{room} imports {target}"
    if room == "pipeline.core" and library not in CORE_LIBRARIES | sys.stdlib_module_names:
        return f"{room} imports {library}"
    where = SLOW_LIBRARIES.get(library)
    if where and not any(is_in(module, some) for some in where.in_functions):
        return f"{room} imports {library}"
    if where and at_top and not any(is_in(module, some) for some in where.at_top):
        return f"{room} imports {library} outside functions"
    return None


def may_import(room: str, other: str | None) -> bool:
    if other == room or other is None:
        return other == room
    if other == "schemas":
        return room != "pipeline.core"
    return (
        half_of(other) == half_of(room) and room not in ONLY_SCHEMAS and FLOOR[other] < FLOOR[room]
    )


def half_of(room: str) -> str:
    return room.partition(".")[0]


def sources() -> dict[str, str]:
    return {
        path.relative_to(REPOSITORY).as_posix(): path.read_text("utf-8")
        for folder in ("pipeline", "schemas", "training")
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
    }


def test_imports_point_one_way():
    assert [line for path, source in sources().items() for line in violations(path, source)] == []


def test_the_modules_are_found():
    found = sources()
    assert {"pipeline/core/buckets.py", "schemas/manifest.py", "training/__init__.py"} <= {*found}
    imports = imports_of(ast.parse(found["pipeline/core/exact.py"]), "pipeline.core")
    assert "pipeline.core.buckets.lower_edges" in {target for target, _, _ in imports}


def test_every_room_is_there():
    for room in FLOOR:
        path = REPOSITORY / room.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), room


def test_rooms_do_not_overlap():
    listed = [room for rooms in ROOMS for room in rooms]
    assert [a for i, a in enumerate(listed) for b in listed[:i] if is_in(a, b) or is_in(b, a)] == []


def test_every_room_says_what_it_is():
    for path, source in sources().items():
        assert ast.get_docstring(ast.parse(source)), path


def test_installs_have_every_folder():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    folders = {path.rpartition("/")[0] for path in sources()}
    installed = project["tool"]["setuptools"]["packages"]
    inside = {"exactcpt." + folder.replace("/", ".") for folder in folders - {ROOT}}
    assert installed == sorted(inside | {"exactcpt"})
    assert project["tool"]["setuptools"]["package-dir"]["exactcpt"] == ROOT


def shadows(path: str) -> list[str]:
    """The parts of a path that are also the name of a module of the standard library."""
    return [name for name in path.removesuffix(".py").split("/") if name in STANDARD]


STANDARD = {name for name in sys.stdlib_module_names if not name.startswith("_")}


def test_no_name_is_one_of_the_standard_library():
    assert [path for path in sources() if shadows(path)] == []


def test_a_name_of_the_standard_library_is_seen():
    assert shadows("pipeline/inspect/tables.py") == ["inspect"]
    assert shadows("pipeline/commands/tokenize.py") == ["tokenize"]


@pytest.mark.parametrize(
    ("path", "source", "problem"),
    [
        ("pipeline/new.py", "", "pipeline/new.py is in no room: add it to ROOMS"),
        ("pipeline/new/__init__.py", "", "pipeline/new/__init__.py is in no room: add it to ROOMS"),
        (
            "pipeline/core/exact.py",
            "from ..files.storage import x",
            "pipeline.core imports pipeline.files.storage.x",
        ),
        (
            "pipeline/core/exact.py",
            "from ..files import storage",
            "pipeline.core imports pipeline.files.storage",
        ),
        (
            "pipeline/core/exact.py",
            "from .. import files",
            "pipeline.core imports pipeline.files",
        ),
        (
            "pipeline/core/exact.py",
            "import exactcpt.pipeline.files.storage",
            "pipeline.core imports pipeline.files.storage",
        ),
        (
            "pipeline/core/exact.py",
            "from exactcpt.pipeline.core import buckets\nfrom exactcpt.pipeline import files",
            "pipeline.core imports pipeline.files",
        ),
        (
            "pipeline/core/exact.py",
            "def f():\n    from ..files.storage import x",
            "pipeline.core imports pipeline.files.storage.x",
        ),
        (
            "pipeline/core/exact.py",
            "from ...schemas import shard",
            "pipeline.core imports schemas.shard",
        ),
        (
            "pipeline/tokens/store.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..pack.plan import x",
            "pipeline.tokens imports pipeline.pack.plan.x",
        ),
        (
            "pipeline/beam/runner.py",
            "from ..tokens.store import x",
            "pipeline.beam imports pipeline.tokens.store.x",
        ),
        (
            "pipeline/tokens/store.py",
            "from ..show import lines",
            "pipeline.tokens imports pipeline.show.lines",
        ),
        (
            "pipeline/commands/pack.py",
            "from ..cli import x",
            "pipeline.commands imports pipeline.cli.x",
        ),
        (
            "pipeline/files/storage.py",
            "from ..mystery import x",
            "pipeline.files imports pipeline.mystery.x",
        ),
        (
            "pipeline/cli.py",
            "def f():\n    from ..training import train",
            "pipeline.cli imports training.train",
        ),
        (
            "training/windows/batches.py",
            "from ...pipeline.core.buckets import x",
            "training.windows imports pipeline.core.buckets.x",
        ),
        (
            "training/train.py",
            "from ..pipeline.core import buckets",
            "training.train imports pipeline.core.buckets",
        ),
        (
            "schemas/shard.py",
            "from ..pipeline.core import buckets",
            "schemas imports pipeline.core.buckets",
        ),
        (
            "pipeline/verify/shards.py",
            "from ..core.buckets import x",
            "pipeline.verify imports pipeline.core.buckets.x",
        ),
        (
            "pipeline/verify/__init__.py",
            "def f():\n    from ..tokens import store",
            "pipeline.verify imports pipeline.tokens.store",
        ),
        (
            "pipeline/verify/store.py",
            "from exactcpt.pipeline.verifying import x",
            "pipeline.verify imports pipeline.verifying.x",
        ),
        ("pipeline/core/buckets.py", "import pyarrow.compute", "pipeline.core imports pyarrow"),
        ("pipeline/core/buckets.py", "def f():\n    import xxhash", "pipeline.core imports xxhash"),
        ("pipeline/tokens/store.py", "import apache_beam", "pipeline.tokens imports apache_beam"),
        (
            "pipeline/cli.py",
            "def f():\n    import apache_beam.io",
            "pipeline.cli imports apache_beam",
        ),
        (
            "pipeline/sources/hub.py",
            "class A:\n    try:\n        import datasets\n    finally:\n        pass",
            "pipeline.sources imports datasets outside functions",
        ),
        (
            "pipeline/sources/hub.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import datasets.load",
            "pipeline.sources imports datasets outside functions",
        ),
        (
            "pipeline/sources/hub.py",
            "from datasets import x",
            "pipeline.sources imports datasets outside functions",
        ),
        (
            "training/windows/batches.py",
            "import datasets",
            "training.windows imports datasets outside functions",
        ),
        ("pipeline/pack/graph.py", "def f():\n    import torch", "pipeline.pack imports torch"),
        (
            "pipeline/tokens/store.py",
            "async def f():\n    import transformers",
            "pipeline.tokens imports transformers",
        ),
        ("schemas/shard.py", "def f():\n    import torch", "schemas imports torch"),
        (
            "training/train.py",
            "def f():\n    import apache_beam",
            "training.train imports apache_beam",
        ),
        (
            "training/models/loss.py",
            "from ..windows.batches import x",
            "training.models imports training.windows.batches.x",
        ),
        ("training/new.py", "", "training/new.py is in no room: add it to ROOMS"),
    ],
)
def test_the_checker_sees(path, source, problem):
    assert len(violations(path, source)) == 1
    assert violations(path, source)[0].endswith(problem)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pipeline/core/exact.py", "import math\nimport numpy as np\nfrom .buckets import x"),
        (
            "pipeline/tokens/store.py",
            "from . import plan\nfrom ...schemas.shard import x\nimport pyarrow",
        ),
        ("pipeline/pack/units.py", "from ..tokens import store\nfrom ..core.exact import x"),
        ("pipeline/sources/hub.py", "def f():\n    import datasets"),
        ("pipeline/sources/hub.py", "async def f():\n    import datasets"),
        ("pipeline/sources/hub.py", "if typing.TYPE_CHECKING:\n    import datasets"),
        ("pipeline/beam/runner.py", "import apache_beam as beam\nfrom ..job import halt"),
        ("pipeline/pack/graph.py", "import apache_beam as beam\nfrom . import units"),
        ("pipeline/cli.py", "def f():\n    from .pack.job import x\n    from .commands import y"),
        ("pipeline/verify/__init__.py", "from .store import x\nfrom ...schemas import shard"),
        ("pipeline/verify/shards.py", "from . import store\nfrom .store import x\nimport pyarrow"),
        (
            "training/train.py",
            "import torch\nfrom transformers import x\nfrom ..schemas import shard",
        ),
        ("training/windows/order.py", "from ..models.loss import x\nfrom . import batches"),
        ("schemas/manifest.py", "from .errors import x\nimport pyarrow"),
    ],
)
def test_the_checker_allows(path, source):
    assert violations(path, source) == []


def loaded_by(module: str) -> set[str]:
    """Top-level packages in a fresh interpreter that has imported one module."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_starts_without_slow_libraries():
    assert loaded_by("exactcpt.pipeline.cli") & NOT_FOR_THE_CLI == set()


def test_the_package_is_imported_without_any_library():
    assert loaded_by("exactcpt") & NOT_FOR_THE_CLI == set()


def test_arrays_need_numpy_alone():
    """Everything that takes arrays, with PyTorch left out until there is a tensor."""
    table = "exactcpt.weight_table(exactcpt.histogram([[9]], window=9), window=9, tau=3)"
    found = loaded_by(f"exactcpt; exactcpt.weights(table={table}, seq_lengths=[9])")
    assert found & NOT_FOR_THE_CLI == {"numpy"}


def test_every_public_name_is_there():
    import exactcpt

    assert {*exactcpt.__all__} == {*exactcpt.HOMES, "__version__"}
    assert {*exactcpt.__all__} <= {*dir(exactcpt)}
    for name in exactcpt.__all__:
        assert getattr(exactcpt, name)
    with pytest.raises(AttributeError, match="has no attribute 'histograms'"):
        exactcpt.histograms  # noqa: B018


def test_a_slow_library_would_be_seen():
    assert loaded_by("exactcpt.pipeline.core.buckets") & NOT_FOR_THE_CLI == {"numpy"}
