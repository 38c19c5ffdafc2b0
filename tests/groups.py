# SPDX-License-Identifier: Apache-2.0
"""Groups of tests that share a worker.

With pytest 9.2, xdist's own `--dist loadgroup` sees no group (pytest-xdist, issue 1386): without a word it plays each
test wherever there is room, and every worker starts what a module shares. So each worker writes down which test belongs
to which group, and the scheduler here reads it; no test's name is changed for it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

__all__ = ["pytest_configure_node", "pytest_xdist_make_scheduler", "tell"]

_FOLDER = pytest.StashKey[Path]()


def _folder(config: pytest.Config) -> Path:
    """Where the workers of this run write; it ends with the run."""
    if _FOLDER not in config.stash:
        made = tempfile.TemporaryDirectory(prefix="labkit-groups-")
        config.add_cleanup(made.cleanup)
        config.stash[_FOLDER] = Path(made.name)
    return config.stash[_FOLDER]


@pytest.hookimpl
def pytest_configure_node(node: WorkerController) -> None:
    node.workerinput["groups"] = str(_folder(node.config) / f"{node.gateway.id}.json")


def tell(workerinput: dict[str, str], groups: Iterable[tuple[str, str]]) -> None:
    """In a worker: tell the scheduler of each test's id and group."""
    if "groups" in workerinput:
        Path(workerinput["groups"]).write_text(json.dumps(dict(groups)))


class Groups(LoadScopeScheduling):
    """Group by group, in the order of the tests: the next to the worker that is done first."""

    groups: dict[str, str]

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        self.groups = json.loads(Path(node.workerinput["groups"]).read_text())
        super().add_node_collection(node, collection)

    def _split_scope(self, nodeid: str) -> str:
        return self.groups[nodeid]


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups | None:
    return Groups(config, log) if config.option.dist == "loadgroup" else None
