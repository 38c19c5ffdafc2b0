# SPDX-License-Identifier: Apache-2.0
"""Workers that begin with different files, so that in a fresh clone none compiles what another has.

Each worker collects all tests, in the same order. Where nothing is compiled yet each would rewrite the assertions of
every file by itself, which takes ten seconds of CPU. So each imports its share first and keeps what it has compiled, as
Python does; when it comes to the files of the others it finds theirs.

What is collected stays until the end. Python's garbage collector would go through all of it again and again, for an
eighth of the time of quick tests, so it is told of none of it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

__all__ = ["import_share", "pytest_collection"]

HERE = Path(__file__).resolve().parent


def import_share(files: Sequence[Path], root: Path, number: int, count: int) -> None:
    """Import every `count`th file, beginning with the one at `number`.

    What fails is left to pytest, which imports it again and tells.

    Args:
        files: Python files of packages, in an order that is the same in all workers.
        root: The folder that the packages are in.
        number: Of this worker, from 0.
        count: Of workers.
    """
    for file in files[number::count]:
        name = ".".join(file.relative_to(root).with_suffix("").parts)
        # As pytest has it: a warning is an error.
        with contextlib.suppress(Exception, pytest.skip.Exception), warnings.catch_warnings(action="error"):
            importlib.import_module(name)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """In one of several workers that collect the whole suite: begin with its share."""
    known = getattr(session.config, "workerinput", {})
    asked = {Path(one.partition("::")[0]).resolve() for one in session.config.args}
    gc.disable()
    try:
        if known and known["workercount"] > 1 and asked <= {HERE, HERE.parent}:
            number = int(known["workerid"].removeprefix("gw"))
            import_share(sorted(HERE.rglob("test_*.py")), HERE.parent, number, known["workercount"])
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
