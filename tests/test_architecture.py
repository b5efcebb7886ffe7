"""Imports point one way: core <- edges <- Beam shell <- jobs <- cli; `schemas` is a leaf.

`pipeline` and `training` share `schemas` and never import each other. Libraries that are slow to
import are imported where they are used. Sources are read, not run.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]

# Every module of pipeline/ is in one layer.
LAYERS = {
    "core": {
        "estimation",
        "__init__",
        "buckets",
        "choices",
        "context",
        "exact",
        "packing",
        "runs",
        "selection",
        "shuffle",
        "whatif",
    },
    "edge": {
        "columns",
        "config",
        "decoding",
        "document_rows",
        "estimate",
        "formats",
        "halt",
        "hub",
        "inspect_csv",
        "inspect_tables",
        "interruption",
        "ipc",
        "job",
        "jsonl",
        "occurrences",
        "pack_units",
        "places",
        "plan",
        "probe",
        "progress",
        "recognize",
        "report",
        "reweigh_units",
        "selection_units",
        "shard_set",
        "shards",
        "show_html",
        "show_lines",
        "show_text",
        "sources",
        "storage",
        "store",
        "summary",
        "tokenization",
        "tokenize_units",
        "verify",
        "windows",
    },
    "beam": {"graph", "processes", "runner", "transforms", "worker"},
    "jobs": {
        "commands",
        "inspect_command",
        "inspection",
        "pack_job",
        "prepare_job",
        "sample_inspection",
        "sampling",
        "reweigh",
        "show",
        "tokenize_job",
    },
    "cli": {"cli"},
}
MAY_IMPORT = {
    "schemas": {"schemas"},
    "core": {"core"},
    "edge": {"core", "edge", "schemas"},
    "beam": {"beam", "core", "edge", "schemas"},
    "jobs": {"beam", "core", "edge", "jobs", "schemas"},
    "cli": {"beam", "cli", "core", "edge", "jobs", "schemas"},
    "training": {"schemas", "training"},
}
CORE_LIBRARIES = {"numpy"}
# What checks the output knows the format, not what wrote it: a package of its own.
ONLY_SCHEMAS = {"exactcpt.pipeline.verify"}


class Where(NamedTuple):
    """Layers in which a slow library may be imported."""

    at_top: set[str]
    in_functions: set[str]


SLOW_LIBRARIES = {
    "apache_beam": Where(at_top={"beam"}, in_functions={"beam"}),
    "datasets": Where(at_top=set(), in_functions={"edge", "training"}),
    "torch": Where(at_top={"training"}, in_functions={"training"}),
    "transformers": Where(at_top={"training"}, in_functions={"training"}),
    "vl_convert": Where(at_top=set(), in_functions={"edge", "training"}),
}
NOT_FOR_THE_CLI = {"apache_beam", "datasets", "numpy", "pyarrow", "torch", "vl_convert"}


class Import(NamedTuple):
    target: str  # dotted, absolute
    line: int
    at_top: bool  # runs when the module is imported


def imports_of(tree: ast.Module, package: str) -> Iterator[Import]:
    def walk(node: ast.AST, at_top: bool) -> Iterator[Import]:
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(alias.name, node.lineno, at_top)
            case ast.ImportFrom():
                for target in targets_of(node, package):
                    yield Import(target, node.lineno, at_top)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from below(node.body, False)
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                yield from below(node.body, False)
                yield from below(node.orelse, at_top)
            case _:
                yield from below(ast.iter_child_nodes(node), at_top)

    def below(nodes, at_top: bool) -> Iterator[Import]:
        for node in nodes:
            yield from walk(node, at_top)

    return walk(tree, True)


def targets_of(node: ast.ImportFrom, package: str) -> list[str]:
    """`from . import a, b` names modules; `from .a import f` names the module `.a`."""
    base = package.split(".")[: -node.level + 1 or None] if node.level else []
    module = ".".join([*base, *filter(None, [node.module])])
    packages = {"exactcpt", *(f"exactcpt.{name}" for name in ("pipeline", "schemas", "training"))}
    return [f"{module}.{alias.name}" for alias in node.names] if module in packages else [module]


def layer_of(module: str) -> str | None:
    _, folder, name = [*module.split("."), "__init__", "__init__"][:3]
    if folder in {"schemas", "training"}:
        return folder
    return next((layer for layer, names in LAYERS.items() if name in names), None)


def is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of one module, given its path below the repository."""
    module = "exactcpt." + path.removesuffix(".py").replace("/", ".")
    layer = layer_of(module)
    if layer is None:
        return [f"{path} is in no layer: add it to LAYERS"]
    found = []
    for target, line, at_top in imports_of(ast.parse(source), module.rpartition(".")[0]):
        if problem := problem_with(module, layer, target, at_top):
            found.append(f"{path}:{line}: {problem}")
    return found


def problem_with(module: str, layer: str, target: str, at_top: bool) -> str | None:
    library = target.partition(".")[0]
    if library == "exactcpt":
        other = layer_of(target)
        alone = next((package for package in ONLY_SCHEMAS if is_in(module, package)), None)
        if alone and is_in(target, alone):
            return None
        allowed = {"schemas"} if alone else MAY_IMPORT[layer]
        return None if other in allowed else f"{layer} imports {target} ({other or 'no layer'})"
    if layer == "core" and library not in CORE_LIBRARIES | sys.stdlib_module_names:
        return f"core imports {library}"
    where = SLOW_LIBRARIES.get(library)
    if where and layer not in where.in_functions:
        return f"{layer} imports {library}"
    if where and at_top and layer not in where.at_top:
        return f"{layer} imports {library} outside functions"
    return None


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
    assert {"pipeline/buckets.py", "schemas/manifest.py", "training/__init__.py"} <= found.keys()
    imports = list(imports_of(ast.parse(found["pipeline/exact.py"]), "exactcpt.pipeline"))
    assert "exactcpt.pipeline.buckets" in {target for target, _, _ in imports}


@pytest.mark.parametrize(
    ("path", "source", "problem"),
    [
        ("pipeline/new.py", "", "pipeline/new.py is in no layer: add it to LAYERS"),
        (
            "pipeline/exact.py",
            "from .store import x",
            "core imports exactcpt.pipeline.store (edge)",
        ),
        ("pipeline/exact.py", "from . import store", "core imports exactcpt.pipeline.store (edge)"),
        (
            "pipeline/exact.py",
            "import exactcpt.pipeline.store",
            "core imports exactcpt.pipeline.store (edge)",
        ),
        (
            "pipeline/exact.py",
            "from exactcpt.pipeline import buckets, store",
            "core imports exactcpt.pipeline.store (edge)",
        ),
        (
            "pipeline/exact.py",
            "def f():\n    from .store import x",
            "core imports exactcpt.pipeline.store (edge)",
        ),
        (
            "pipeline/exact.py",
            "from ..schemas import shard",
            "core imports exactcpt.schemas.shard (schemas)",
        ),
        (
            "pipeline/store.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .graph import x",
            "edge imports exactcpt.pipeline.graph (beam)",
        ),
        (
            "pipeline/store.py",
            "from .runner import x",
            "edge imports exactcpt.pipeline.runner (beam)",
        ),
        (
            "pipeline/graph.py",
            "from .pack_job import x",
            "beam imports exactcpt.pipeline.pack_job (jobs)",
        ),
        ("pipeline/commands.py", "from .cli import x", "jobs imports exactcpt.pipeline.cli (cli)"),
        ("pipeline/graph.py", "from .cli import x", "beam imports exactcpt.pipeline.cli (cli)"),
        (
            "pipeline/store.py",
            "from .mystery import x",
            "edge imports exactcpt.pipeline.mystery (no layer)",
        ),
        (
            "pipeline/cli.py",
            "def f():\n    from ..training import train",
            "cli imports exactcpt.training.train (training)",
        ),
        (
            "training/data.py",
            "from ..pipeline.buckets import x",
            "training imports exactcpt.pipeline.buckets (core)",
        ),
        (
            "training/deep/data.py",
            "from ...pipeline import buckets",
            "training imports exactcpt.pipeline.buckets (core)",
        ),
        (
            "schemas/shard.py",
            "from ..pipeline import buckets",
            "schemas imports exactcpt.pipeline.buckets (core)",
        ),
        (
            "pipeline/verify/shards.py",
            "from ..buckets import x",
            "edge imports exactcpt.pipeline.buckets (core)",
        ),
        (
            "pipeline/verify/__init__.py",
            "def f():\n    from .. import store",
            "edge imports exactcpt.pipeline.store (edge)",
        ),
        (
            "pipeline/verify/store.py",
            "from exactcpt.pipeline.verifying import x",
            "edge imports exactcpt.pipeline.verifying (no layer)",
        ),
        ("pipeline/buckets.py", "import pyarrow.compute", "core imports pyarrow"),
        ("pipeline/buckets.py", "def f():\n    import xxhash", "core imports xxhash"),
        ("pipeline/store.py", "import apache_beam", "edge imports apache_beam"),
        ("pipeline/cli.py", "def f():\n    import apache_beam.io", "cli imports apache_beam"),
        (
            "pipeline/store.py",
            "class A:\n    try:\n        import datasets\n    finally:\n        pass",
            "edge imports datasets outside functions",
        ),
        (
            "pipeline/store.py",
            "if TYPE_CHECKING:\n    pass\nelse:\n    import datasets.load",
            "edge imports datasets outside functions",
        ),
        ("pipeline/hub.py", "from datasets import x", "edge imports datasets outside functions"),
        ("training/data.py", "import datasets", "training imports datasets outside functions"),
        ("pipeline/graph.py", "def f():\n    import torch", "beam imports torch"),
        (
            "pipeline/store.py",
            "async def f():\n    import transformers",
            "edge imports transformers",
        ),
        ("schemas/shard.py", "def f():\n    import torch", "schemas imports torch"),
        ("training/data.py", "def f():\n    import apache_beam", "training imports apache_beam"),
    ],
)
def test_the_checker_sees(path, source, problem):
    assert len(violations(path, source)) == 1
    assert violations(path, source)[0].endswith(problem)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pipeline/exact.py", "import math\nimport numpy as np\nfrom .buckets import x"),
        ("pipeline/store.py", "from . import plan\nfrom ..schemas.shard import x\nimport pyarrow"),
        ("pipeline/hub.py", "def f():\n    import datasets"),
        ("pipeline/hub.py", "async def f():\n    import datasets"),
        ("pipeline/store.py", "if typing.TYPE_CHECKING:\n    import datasets"),
        (
            "pipeline/graph.py",
            "import apache_beam as beam\nfrom .store import x\nfrom . import plan",
        ),
        ("pipeline/cli.py", "def f():\n    from .pack_job import x\n    from .graph import x"),
        ("pipeline/verify/__init__.py", "from .store import x\nfrom ...schemas import shard"),
        ("pipeline/verify/shards.py", "from . import store\nfrom .store import x\nimport pyarrow"),
        (
            "training/train.py",
            "import torch\nfrom transformers import x\nfrom ..schemas import shard",
        ),
        ("training/deep/data.py", "from ..loss import x\nfrom . import other"),
        ("schemas/manifest.py", "from .errors import x\nimport pyarrow"),
    ],
)
def test_the_checker_allows(path, source):
    assert violations(path, source) == []


def test_layers_do_not_overlap():
    names = [name for layer in LAYERS.values() for name in layer]
    assert len(names) == len(set(names))


def loaded_by(module: str) -> set[str]:
    """Top-level packages in a fresh interpreter that has imported one module."""
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.skipif(not (REPOSITORY / "pipeline" / "cli.py").exists(), reason="no cli.py yet")
def test_the_command_line_starts_without_slow_libraries():
    assert loaded_by("exactcpt.pipeline.cli") & NOT_FOR_THE_CLI == set()


def test_a_slow_library_would_be_seen():
    assert loaded_by("exactcpt.pipeline.buckets") & NOT_FOR_THE_CLI == {"numpy"}
