"""Archives of tar and files of WARC, member by member and record by record."""

import io
import tarfile
from collections.abc import Iterable

Member = tuple[str, bytes]


def archive(members: Iterable[Member | tarfile.TarInfo], form: int = tarfile.PAX_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return data.getvalue()


def record(text: bytes, kind: str = "conversion", **headers: str) -> bytes:
    named = {"WARC-Type": kind, **headers, "Content-Length": str(len(text))}
    lines = ["WARC/1.0", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, "", ""]).encode() + text + b"\r\n\r\n"


def page(key: str, text: bytes) -> bytes:
    return record(text, **{"WARC-Record-ID": key, "WARC-Target-URI": f"https://example.org/{key}"})
