# SPDX-License-Identifier: Apache-2.0
"""The commands that this repository's pages, Makefile and CI name, as lists of words."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

WORKFLOWS = REPOSITORY / ".github" / "workflows"

_BLOCK = re.compile(r"^```shell\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@functools.cache
def targets() -> dict[str, str]:
    """The Makefile's targets that somebody may ask for, each with its recipe."""
    text = (REPOSITORY / "Makefile").read_text()
    found = re.findall(r"^([a-z-]+):.*##.*\n((?:\t.*\n|\n)*)", text, re.MULTILINE)
    return dict(found)


def variables() -> set[str]:
    """The Makefile's variables: what may be given as NAME=value."""
    return set(re.findall(r"\$\(([A-Z_]+)\)", (REPOSITORY / "Makefile").read_text()))


def blocks(page: Path) -> list[str]:
    """The text of each ```shell block of a page."""
    return _BLOCK.findall(page.read_text())


def lines(text: str) -> Iterator[str]:
    """The commands of a shell text, without comments; a line that ends with a backslash goes on."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def words(line: str) -> list[list[str]]:
    """The simple commands of a line: what `&&`, `||`, `|` and `;` part, without assignments and redirections."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
    reader.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in reader:
        if set(word) <= set("&|;"):
            found.append([])
        else:
            found[-1].append(word)
    return [command for command in map(_bare, found) if command]


def _bare(command: list[str]) -> list[str]:
    for end in (">", ">>", "<"):
        if end in command:
            command = command[: command.index(end)]
    while command and re.match(r"\w+=", command[0]):
        command = command[1:]
    return command


def workflows() -> dict[str, dict[str, Any]]:
    """Each workflow by its file's name. YAML reads its key `on` as True."""
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(WORKFLOWS.glob("*.yml"))}


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each step of each job, with where it is."""
    for name, workflow in workflows().items():
        for job, said in workflow["jobs"].items():
            for step in said.get("steps", []):
                yield f"{name}: {job}", step
