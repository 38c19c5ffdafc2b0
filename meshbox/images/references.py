# SPDX-License-Identifier: Apache-2.0
"""Finds the image behind a reference, and what a command in it runs as."""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import os
import re
import shutil
from pathlib import Path, PurePosixPath

from labkit.ground.errors import SandboxError
from meshbox.images.context import ContainerContext, Image, ImageName, Launch
from meshbox.images.own import find_own

__all__ = ["ProgramNotFoundError", "find", "known", "known_as", "launch", "modules", "near"]

_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)

_MODULES = """
    addons bookinfo databases echo echoapp extauthz fortio grafana helloworld httpbin istio kiali metrics_server
    nginx otel programs prometheus proxyv2 ratelimit redis websocket_sample zipkin
"""
"""Modules of this package with a tuple IMAGES."""


class ProgramNotFoundError(SandboxError):
    """A container's command is not there or cannot be executed; the message is the container runtime's own."""


@functools.cache
def _table() -> dict[str, Image]:
    table: dict[str, Image] = {}
    for name in _MODULES.split():
        for image in _images(name):
            table.update(dict.fromkeys(image.repositories, image))
    return table


def _images(name: str) -> tuple[Image, ...]:
    """The images of a module of this package; () where the release that is installed has not got it."""
    module = f"{__package__}.{name}"
    if importlib.util.find_spec(module) is None:
        return ()
    found: tuple[Image, ...] = importlib.import_module(module).IMAGES
    return found


def find(reference: str) -> Image | None:
    """The image that `reference` names, whatever its registry and tag; None if there is none.

    Raises:
        ValueError: `reference` is not an image reference.
    """
    repository = ImageName.parse(reference).repository
    return find_own(repository) or _table().get(repository)


def near(reference: str) -> list[str]:
    """The images whose names are most like that of `reference`, at most three."""
    wanted = ImageName.parse(reference).repository.rpartition("/")[2]
    by_end = {name.rpartition("/")[2]: name for name in known()}
    parts = set(re.split(r"[-_.]", wanted))
    alike = difflib.get_close_matches(wanted, by_end, n=3, cutoff=0.6)
    # What shares a whole word is nearer than what shares letters.
    shared = [end for end in by_end if len(parts & set(re.split(r"[-_.]", end))) * 2 > len(parts)]
    return [by_end[end] for end in dict.fromkeys([*shared, *alike])][:3]


def known() -> list[str]:
    """One repository of each image there is, sorted, as a learner would write it."""
    return sorted({image.repositories[0].removeprefix("library/") for image in _table().values()})


def known_as(name: str) -> str:
    """What the image `name`, one of `known`, is here, in a few words."""
    image = _table()[ImageName.parse(name).repository]
    return image.stands_in or "as it is"


_SELDOM = (
    *("databases", "echo", "echoapp", "extauthz", "fortio", "helloworld"),
    *("nginx", "otel", "ratelimit", "redis", "websocket_sample"),
)
"""Whose images few sandboxes run: what they need each of their pods loads by itself, and others have more memory."""


def modules() -> list[str]:
    """The modules of the Python-run programs that most sandboxes have, for the zygote to load once."""
    images = [image for name in _MODULES.split() if name not in _SELDOM for image in _images(name)]
    programs = [program for image in images for program in image.programs.values()]
    named = {module for image in images for module in image.modules}
    return sorted(named | {program.partition(":")[0] for program in programs if isinstance(program, str)})


def launch(image: Image, context: ContainerContext) -> Launch:
    """How the command line of `context` is started.

    Raises:
        ProgramNotFoundError: neither the image nor this machine has the program.
    """
    if not context.argv:
        raise ProgramNotFoundError("no command specified")
    program = image.programs.get(PurePosixPath(context.argv[0]).name)
    if isinstance(program, str):
        return Launch(entry=program, argv=context.argv)
    if program is not None:
        return program(context)
    return machine_program(context)


def machine_program(context: ContainerContext) -> Launch:
    """The machine's own program, with the container's mount paths in its arguments replaced by where they really are.

    Raises:
        ProgramNotFoundError: this machine has no such program.
    """
    name, *args = context.argv
    inside = next((path for path in (_real(name, context), name) if "/" in path and os.path.exists(path)), None)
    found = inside or shutil.which(PurePosixPath(name).name, path=context.env.get("PATH", os.defpath))
    if found is None:
        problem = (
            "stat " + name + ": no such file or directory" if "/" in name else "executable file not found in $PATH"
        )
        raise ProgramNotFoundError(f'exec: "{name}": {problem}')
    if os.path.isdir(found) or not os.access(found, os.X_OK):
        raise ProgramNotFoundError(f'exec: "{name}": permission denied')
    return Launch(argv=(found, *(_real(arg, context) for arg in args)))


def _real(text: str, context: ContainerContext) -> str:
    """`text` with each mount path in it replaced: there is no mount namespace in which that path could exist."""
    if "/" not in text:
        return text
    mounts = sorted((mount for mount in context.mounts if mount in text and mount != "/"), key=len, reverse=True)
    if not mounts:
        return text
    # Not inside a longer path such as /data2 or /var/data.
    paths = "|".join(re.escape(mount.rstrip("/")) for mount in mounts)
    return re.sub(rf"(?<![\w./-])({paths})(?![\w.-])", lambda match: _plain(context.path(match[1]), context), text)


def _plain(path: Path, context: ContainerContext) -> str:
    """`path` in letters that a shell takes as they are: it may come to stand anywhere in a script."""
    if _PLAIN.fullmatch(str(path)):
        return str(path)
    home = context.settings.home
    return f"/proc/{os.getpid()}/fd/{_handle(home, home.stat().st_ino)}/{path.relative_to(home)}"


@functools.lru_cache(maxsize=8)
def _handle(home: Path, _inode: int) -> int:
    """A descriptor of the sandbox's folder, open for as long as this process, whose pods end with it."""
    return os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
