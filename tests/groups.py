# SPDX-License-Identifier: Apache-2.0
"""Groups of tests that share a worker.

With pytest 9.2, xdist's own `--dist loadgroup` sees no group (pytest-xdist, issue 1386): without a word it plays each
test wherever there is room, and every worker starts what a module shares. So each worker writes down which test belongs
to which group, and the scheduler here reads it; no test's name is changed for it. What several groups would each start,
and leave as it was, stays with a worker: it goes on with the next group that wants the same.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
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


def tell(
    workerinput: dict[str, str], groups: Iterable[tuple[str, str]], wants: Mapping[str, str] | None = None
) -> None:
    """In a worker: tell the scheduler of each test's id and group, and what groups want that others want too."""
    if "groups" in workerinput:
        Path(workerinput["groups"]).write_text(json.dumps({"groups": dict(groups), "wants": dict(wants or {})}))


class Groups(LoadScopeScheduling):
    """Group by group, in the order of the tests: the next to the worker that is done first."""

    groups: dict[str, str]
    wants: dict[str, str]

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        told = json.loads(Path(node.workerinput["groups"]).read_text())
        self.groups, self.wants = told["groups"], told["wants"]
        super().add_node_collection(node, collection)

    def _split_scope(self, nodeid: str) -> str:
        return self.groups[nodeid]

    def _reschedule(self, node: WorkerController) -> None:
        """Tell a worker of its next group as late as can be: what it has been told of waits for it and no other.

        A worker plays a test only when it knows the one after it. xdist tells it of a group when two tests are left,
        and a long one of them then keeps all that was told back.
        """
        if node.shutting_down:
            return
        if not self.workqueue:
            node.shutdown()
            return
        begun = [group for group in self.assigned_work[node].values() if not all(group.values())]
        if sum(list(group.values()).count(False) for group in begun) > 1:
            return
        if any(len(group) == 1 for group in begun):
            # One test that is a group may take as long as all others of the worker: so the shortest waits for it.
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        elif same := self._wanting_the_same(node):
            self.workqueue.move_to_end(same, last=False)
        self._assign_work_unit(node)

    def _wanting_the_same(self, node: WorkerController) -> str | None:
        """The first group that can go on with what this worker's last one wanted."""
        wanted = self.wants.get(next(reversed(self.assigned_work[node]), ""))
        return next((group for group in self.workqueue if wanted and self.wants.get(group) == wanted), None)


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups | None:
    return Groups(config, log) if config.option.dist == "loadgroup" else None
