# SPDX-License-Identifier: Apache-2.0
"""Images of the learner's own: a name, and the program of this machine that a container of that image runs.

They are kept in `$LABKIT_HOME/images.json`, for all sandboxes of this user, and looked up before the sandbox's own.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from labkit.ground import config, files, reading
from labkit.ground.errors import SandboxError
from meshbox.images.context import ContainerContext, Image, ImageName, Launch
from meshbox.program import program

__all__ = ["add", "all_own", "find_own", "remove"]

_Commands = dict[str, list[str]]


def _file() -> Path:
    return config.home() / "images.json"


def all_own() -> _Commands:
    """Repository → command line, of each image that was added.

    Raises:
        SandboxError: the file with them cannot be understood.
    """
    file = _file()
    try:
        kept = _read(file, file.stat().st_mtime_ns)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SandboxError(
            f"{file}: {error}", next_step=f"mend or delete it, then `{program()} image add` again"
        ) from None
    return {name: list(line) for name, line in kept.items()}


@functools.lru_cache(maxsize=1)
def _read(file: Path, _changed: int) -> _Commands:
    content = reading.json_value(files.read(file))
    if not isinstance(content, dict) or not all(
        isinstance(line, list) and line and all(isinstance(word, str) for word in line) for line in content.values()
    ):
        raise ValueError("not a list of command lines by image")
    return content


def find_own(repository: str) -> Image | None:
    """The image that was added as `repository`; None if there is none, or if the file with them is damaged."""
    try:
        line = all_own().get(repository)
    except SandboxError:
        return None
    if line is None:
        return None
    return Image(
        repositories=(repository,),
        entrypoint=tuple(line),
        programs={Path(line[0]).name: _launched},
        stands_in="a program of this machine, added by its user",
    )


def _launched(context: ContainerContext) -> Launch:
    """The program, with the pod's own arguments: mount paths in them are not translated, as it may be anything."""
    return Launch(argv=context.argv)


def add(name: str, command: list[str]) -> tuple[str, list[str]]:
    """Keep `command` as what a container of image `name` runs.

    Args:
        name: An image's name as in a pod, e.g. "shop/cart"; its registry and tag do not matter.
        command: A program and its arguments, as one text or as words; a Python file is run by this Python.

    Returns:
        The repository it is known by, and the command line.

    Raises:
        SandboxError: `name` is no image's name, or there is no such program or file.
    """
    try:
        repository = ImageName.parse(name).repository
    except ValueError as error:
        raise SandboxError(str(error), next_step="an image is called as in a pod, e.g. shop/cart or cart") from None
    words = shlex.split(command[0]) if len(command) == 1 else list(command)
    line = _command_line(words)
    kept = {**all_own(), repository: line}
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    files.write(file, json.dumps(kept, indent=2).encode())
    return repository, line


def _command_line(words: list[str]) -> list[str]:
    if not words:
        raise SandboxError("no command was given", next_step=f"{program()} image add NAME --command PROGRAM ARGUMENTS…")
    first, *rest = words
    # A pod has a folder of its own: what is named from here is meant from here.
    here = [str(Path(word).absolute()) if os.path.exists(word) else word for word in rest]
    path = Path(first)
    if path.suffix == ".py" and path.is_file():
        return [sys.executable, str(path.absolute()), *here]
    found = shutil.which(first)
    if found is None:
        raise SandboxError(
            f"there is no program {first!r} here", next_step="name one of this machine's, or a Python file: app.py"
        )
    return [str(Path(found).absolute()), *here]


def remove(name: str) -> str:
    """Forget the image `name`; its repository.

    Raises:
        SandboxError: it was not added.
    """
    try:
        repository = ImageName.parse(name).repository
    except ValueError:
        repository = name
    kept = all_own()
    if kept.pop(repository, None) is None:
        raise SandboxError(
            f"image {name!r} was not added here", next_step=f"`{program()} image list` shows those that were"
        )
    files.write(_file(), json.dumps(kept, indent=2).encode())
    return repository
