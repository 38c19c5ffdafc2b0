# SPDX-License-Identifier: Apache-2.0
"""An nginx configuration as a container has it, made into one that this machine's nginx can run for that pod.

Paths inside the container become paths of its folder, and each port that is listened at becomes a Unix socket
(`meshbox.images.fronted` serves the port). All the rest is nginx's business and stays as written.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ConfigurationError", "Translated", "translate"]

_TOKEN = re.compile(r"""\s+|\#[^\n]*|([{};])|("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?:\\.|\$\{[^}]*\}|[^\s{};"'\\])+)""")
_DEEPEST = 20

# Debian's nginx would write below /var, where an ordinary user may not.
_TEMPORARY = ("client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path", "uwsgi_temp_path", "scgi_temp_path")

_CALLER = "real_ip_header proxy_protocol;"
_OWN = {"user", "pid", "daemon", "master_process", "load_module"}
"""Directives that are decided here, or that the machine's nginx decides by itself."""


class ConfigurationError(ValueError):
    """It cannot be read; the message is in nginx's words as far as they go."""


@dataclass
class Translated:
    """What nginx is given.

    Args:
        text: The configuration.
        ports: The pod's port → its Unix socket's name.
        asides: What is not as in a container, for the log.
    """

    text: str = ""
    ports: dict[int, str] = field(default_factory=dict)
    asides: list[str] = field(default_factory=list)


def translate(file: Path, root: Path) -> Translated:
    """The configuration `file`, of a container whose "/" is the folder `root`.

    Raises:
        ConfigurationError: it cannot be read.
    """
    made = Translated()
    lines = list(_directives(_tokens(file), _Place(file, root), made))
    if not any(line.startswith("events ") for line in lines):
        lines.insert(0, "events { }")
    if sum(line.startswith("real_ip_header ") for line in lines) > 1:
        lines.remove(_CALLER)
    made.text = "\n".join(lines) + "\n"
    return made


@dataclass(frozen=True)
class _Place:
    """Where directives are read: the file, the container's folder, blocks and files around, whether a brace is open."""

    file: Path
    root: Path
    depth: int = 0
    braced: bool = False

    def inner(self, file: Path | None = None) -> _Place:
        if self.depth >= _DEEPEST:
            raise ConfigurationError(f"too many files or blocks in each other in {self.file.name}")
        return _Place(file or self.file, self.root, self.depth + 1, braced=file is None)


def _tokens(file: Path) -> Iterator[str]:
    try:
        text = file.read_text()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f'open() "{file}" failed ({error})') from None
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            line = text.count("\n", 0, at) + 1
            raise ConfigurationError(f'unexpected "{text[at]}" in {file.name}:{line}')
        at = found.end()
        if token := found[1] or found[2]:
            yield token


def _directives(tokens: Iterator[str], place: _Place, made: Translated) -> Iterator[str]:
    """The directives up to the end of the block or file, a line each; blocks as lines of their own."""
    words: list[str] = []
    for word in tokens:
        if word == "}":
            if words or not place.braced:
                raise ConfigurationError(f'unexpected "}}" in {place.file.name}')
            return
        if word == "{":
            yield " ".join([*words, "{"])
            if words == ["http"]:
                yield from _http(place.root)
            inside = list(_directives(tokens, place.inner(), made))
            if words == ["server"] and not any(line.startswith("listen ") for line in inside):
                # nginx would take port 80, or 8000, of all addresses of the machine.
                inside.insert(0, _listen(["80"], made))
            yield from inside
            yield "}"
            words = []
        elif word != ";":
            words.append(word)
        else:
            yield from _directive(words, place, made)
            words = []
    if words or place.braced:
        raise ConfigurationError(f'unexpected end of file, expecting ";" or "}}" in {place.file.name}')


def _http(root: Path) -> Iterator[str]:
    # The one who calls is known by what `fronted` says of it.
    yield _CALLER
    yield "set_real_ip_from unix:;"
    for name in _TEMPORARY:
        yield f"{name} {_quoted(str(root / 'run' / name))};"


def _directive(words: list[str], place: _Place, made: Translated) -> Iterator[str]:
    if not words:
        return
    # nginx knows its directives in quotes as well.
    name, *rest = words[0].strip("\"'"), *words[1:]
    if name in _OWN or name in _TEMPORARY:
        return
    if name == "include" and rest:
        for one in _included(rest[0].strip("\"'"), place):
            yield from _directives(_tokens(one), place.inner(one), made)
        return
    if name == "listen" and rest:
        told = _listen(rest, made)
        if told:
            yield told
        return
    if name in ("access_log", "error_log") and rest:
        # The image's files are links to the container's output.
        rest = [_log(rest[0], name), *rest[1:]]
    if name == "proxy_pass":
        note = "proxy_pass: nginx looks its host up itself, by this machine's DNS, and its calls pass the sidecar by"
        if note not in made.asides:
            made.asides.append(note)
    yield " ".join([name, *(_inside_root(word, place.root) for word in rest)]) + ";"


def _included(pattern: str, place: _Place) -> Iterable[Path]:
    if not pattern.startswith("/"):
        pattern = f"/etc/nginx/{pattern}"
    there = str(place.root / pattern.lstrip("/"))
    found = sorted(glob.glob(there)) or sorted(glob.glob(pattern))
    if not found and not glob.has_magic(pattern):
        raise ConfigurationError(f'open() "{pattern}" failed (2: No such file or directory) in {place.file.name}')
    return [Path(one) for one in found]


def _listen(words: list[str], made: Translated) -> str:
    where, *options = words
    host, _, port = where.rpartition(":")
    if where.startswith("unix:"):
        return " ".join(["listen", *words]) + ";"
    if host.startswith("["):
        # The sandbox has no IPv6.
        return ""
    if not port.isdigit():
        host, port = where, "80"
    number = int(port)
    name = f"{number}.sock"
    made.ports[number] = name
    kept = [
        option for option in options if option in ("default_server", "ssl", "http2") or option.startswith("backlog")
    ]
    return " ".join(["listen", f"unix:{name}", *kept, "proxy_protocol"]) + ";"


def _log(path: str, name: str) -> str:
    if path.strip("\"'").startswith("/var/log/nginx/"):
        return "/dev/stdout" if name == "access_log" else "stderr"
    return path


def _inside_root(word: str, root: Path) -> str:
    bare = word.strip("\"'")
    if not bare.startswith("/") or bare.startswith("/dev/"):
        return word
    path = root / bare.lstrip("/")
    return _quoted(str(path)) if path.exists() else word


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
