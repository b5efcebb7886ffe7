"""A server in memory that fails as it is told to, and the errors that libraries raise."""

from collections.abc import Callable
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

__all__ = ["FaultyFileSystem", "raised_by"]


class FaultyFileSystem(MemoryFileSystem):
    """faulty://: asks `fault` before every request, which may raise an error."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]
    pseudo_dirs: ClassVar[list[str]] = [""]
    requests: ClassVar[list[tuple[str, str]]] = []
    fault: ClassVar[Callable[[str, str], None]] = staticmethod(lambda *_: None)

    @classmethod
    def reset(cls) -> None:
        """Empties the server, which then works."""
        cls.store.clear()
        cls.requests.clear()
        cls.fault = staticmethod(lambda *_: None)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return MemoryFileSystem._strip_protocol(str(path).replace("faulty://", "memory://"))

    def _asked(self, what: str, path: str) -> None:
        self.requests.append((what, path))
        type(self).fault(what, path)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        self._asked("get", path)
        return super().cat_file(path, start, end, **options)

    def put_file(self, lpath: Any, rpath: Any, *more: Any, **options: Any) -> None:
        self._asked("put", rpath)
        super().put_file(lpath, rpath, *more, **options)

    def _open(self, path: str, mode: str = "rb", *more: Any, **options: Any) -> Any:
        opened = super()._open(path, mode, *more, **options)
        if mode != "rb":
            return opened
        read = opened.read

        def failing(*size: int) -> bytes:
            data = read(*size)  # moves the position, as a broken connection would
            self._asked("read", path)
            return data

        opened.read = failing
        return opened


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)


def raised_by(library: str, name: str, base: type[Exception] = Exception) -> Exception:
    """An error of a library that need not be installed."""
    kind: Any = type(name, (base,), {"__module__": f"{library}.exceptions"})
    return kind("as the library words it")
