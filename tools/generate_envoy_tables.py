# SPDX-License-Identifier: Apache-2.0
"""Write meshbox/mesh/data/envoy.txt: the field numbers of the protobuf messages that an Envoy is configured with.

The facts come from the descriptors in the modules that the Envoy project publishes for Go, as `go mod download` unpacks
them. Run it again for a newer Envoy:

    python -m tools.generate_envoy_tables [FOLDER]

FOLDER is the module cache (default: Go's own place). What is missing there is downloaded if Go is installed.

A line is a message and its fields, each as `name:number:type` with a space between two. A type is one of protobuf's, or
another message or enum, of the same package where it begins with a dot; before it "[]" stands for a list, and
"{string}" for a map from strings. Behind it, `:0` and so on says of which fields only one may be there: those of the
same number. A line that begins with "=" is an enum and its words, each as `word:number`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from meshbox.images.grpc import wire

TARGET = Path(__file__).parent.parent / "meshbox/mesh/data/envoy.txt"

# Each with the folders whose messages are wanted; of all but the first two it is what those hold.
MODULES = {
    "github.com/envoyproxy/go-control-plane/envoy@v1.40.0": "**/v3",
    "github.com/cncf/xds/go@v0.0.0-20260202195803-dba9d589def2": "**",
    "cel.dev/expr@v0.25.2": ".",
    "go.opentelemetry.io/proto/otlp@v1.11.0": "common/v1",
    "google.golang.org/genproto/googleapis/api@v0.0.0-20260720211330-0afa2a65878a": "expr/v1alpha1",
    "google.golang.org/genproto/googleapis/rpc@v0.0.0-20260720211330-0afa2a65878a": "status",
}
# What only goes between Envoys and those that serve them.
OTHERS = ("service", "admin", "watchdog")

_DESCRIPTOR = re.compile(rb'_rawDesc = ""((?: \+\n\t"(?:[^"\\]|\\.)*")+)')
_LISTED = re.compile(rb"_rawDesc = \[\]byte\{([^}]*)\}")
_PIECE = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(rb"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}

_MESSAGE, _ENUM = 11, 14
_SCALARS = {
    number: name
    for name, number in {
        "double": 1,
        "float": 2,
        "int64": 3,
        "uint64": 4,
        "int32": 5,
        "bool": 8,
        "string": 9,
        "bytes": 12,
        "uint32": 13,
    }.items()
}
_REPEATED = 3


def unpacked(folder: Path | None) -> dict[Path, str]:
    """The modules' folders, downloaded where they are missing, and what is wanted of each.

    Raises:
        FileNotFoundError: a module is not there, and `folder` was given or there is no Go to bring it.
    """
    if folder is None:
        go = ["go", "env", "GOMODCACHE"]
        folder = Path(subprocess.run(go, capture_output=True, text=True, check=True).stdout.strip())
        for module in MODULES:
            if not (folder / module).is_dir():
                subprocess.run(["go", "mod", "download", module], check=True)
    for module in MODULES:
        if not (folder / module).is_dir():
            raise FileNotFoundError(folder / module)
    return {folder / module: wanted for module, wanted in MODULES.items()}


def _unescaped(found: re.Match[bytes]) -> bytes:
    code, letter, other = found.groups()
    if code is not None:
        return bytes([int(code, 16)])
    return chr(int(letter, 16)).encode() if letter is not None else _LETTERS.get(other, other)


def descriptors(folder: Path, wanted: str) -> Iterator[bytes]:
    """The google.protobuf.FileDescriptorProto of each file that a module was made of."""
    for path in sorted(folder.glob(f"{wanted}/*.pb.go")):
        if path.relative_to(folder).parts[0] not in OTHERS:
            code = path.read_bytes()
            for found in _DESCRIPTOR.findall(code):
                yield b"".join(_ESCAPED.sub(_unescaped, piece) for piece in _PIECE.findall(found))
            for found in _LISTED.findall(code):
                yield bytes(int(one, 16) for one in found.replace(b",", b" ").split())


def _all(message: bytes, number: int) -> list[bytes]:
    return [value for n, value in wire.fields(message) if n == number and isinstance(value, bytes)]


def _number(message: bytes, number: int) -> int:
    return next((value for n, value in wire.fields(message) if n == number and isinstance(value, int)), 0)


def _name(message: bytes, number: int = 1) -> str:
    return next((value.decode() for value in _all(message, number)), "")


def _is_map(message: bytes) -> bool:
    return any(_number(options, 7) for options in _all(message, 7))


def _type(field: bytes, package: str) -> str:
    """A field's type, without what says that there are many."""
    kind = _number(field, 5)
    if kind not in (_MESSAGE, _ENUM):
        return _SCALARS[kind]
    name = _name(field, 6).removeprefix(".")
    return name.removeprefix(package) if name.startswith(f"{package}.") else name


def _field(field: bytes, package: str, maps: dict[str, bytes]) -> str:
    entry = maps.get(_name(field, 6))
    if entry is not None:
        key, value = (next(one for one in _all(entry, 2) if _number(one, 3) == number) for number in (1, 2))
        told = f"{{{_type(key, package)}}}{_type(value, package)}"
    else:
        told = ("[]" if _number(field, 4) == _REPEATED else "") + _type(field, package)
    # A field that is optional alone is the only one of its group, which stands for that.
    only = not _number(field, 17) and any(number == 9 for number, _ in wire.fields(field))
    return f"{_name(field)}:{_number(field, 3)}:{told}" + (f":{_number(field, 9)}" if only else "")


def _lines(message: bytes, package: str, around: str) -> Iterator[str]:
    """A message, and what is declared in it."""
    name = f"{around}.{_name(message)}"
    maps = {f".{name}.{_name(one)}": one for one in _all(message, 3) if _is_map(one)}
    yield " ".join((name, *(_field(field, package, maps) for field in _all(message, 2))))
    for enum in _all(message, 4):
        yield _words(enum, name)
    for nested in _all(message, 3):
        if not _is_map(nested):
            yield from _lines(nested, package, name)


def _words(enum: bytes, around: str) -> str:
    words = (f"{_name(word)}:{_number(word, 2)}" for word in _all(enum, 2))
    return " ".join((f"={around}.{_name(enum)}", *words))


def table(folders: Mapping[Path, str]) -> list[str]:
    """The lines."""
    found = []
    for file in (one for folder, wanted in folders.items() for one in descriptors(folder, wanted)):
        package = _name(file, 2)
        found += [_words(enum, package) for enum in _all(file, 5)]
        for message in _all(file, 4):
            found += _lines(message, package, package)
    return sorted(found)


def main() -> None:
    """Write the table."""
    TARGET.parent.mkdir(exist_ok=True)
    lines = table(unpacked(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} messages and enums, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
