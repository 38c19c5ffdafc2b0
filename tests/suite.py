# SPDX-License-Identifier: Apache-2.0
"""How the suite is cut up: what runs beside what, what begins first, and what the quick part leaves out."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

from labkit import display
from labkit.ground.config import DEFAULT_RELEASE
from tests.groups import tell

# The same examples in each run, so that what fails here fails everywhere; LABKIT_LONG=1 looks for others. Nothing is
# kept in the repository, which some may only read; and a loaded machine is no fault of what is tested.
hypothesis.settings.register_profile(
    "fixed",
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("search", hypothesis.settings.get_profile("fixed"), derandomize=False)
hypothesis.settings.load_profile("search" if os.environ.get("LABKIT_LONG") else "fixed")
if not os.environ.get("LABKIT_LONG"):
    # Else it also takes words and numbers from all of our modules that are loaded by then, so that the examples of a
    # test would depend on what its worker has played before.
    _nothing = providers.Constants()
    providers._get_local_constants = lambda: _nothing

# Each worker loads what reads notebooks, and with it a check of IRIs that compiles for a second.
display.import_without_grammars()

HERE = Path(__file__).resolve().parent

STARTING = {"start_sandbox", "start_shared_sandbox", "plan", "second_plan"}
"""Fixtures for sandboxes and their blocks of addresses: a test that asks for one, also by way of another, is long."""

LONG = (
    *("browser", "e2e", "node", "notebooks", "streams", "surroundings", "ui", "walkthrough"),
    *("api/test_kubectl_core", "api/test_mutations", "api/test_journal_recovery", "api/test_rest_python_client"),
    "classroom/test_seats",
    *("course/test_course_interrupt", "course/test_course_runner", "course/test_course_shared_istio"),
    *("images/test_httpbin", "images/test_kiali_console", "images/test_low_ports", "images/test_prometheus_image"),
    *("images/test_web", "istio/test_on_a_cluster", "mesh/test_doors", "mesh/test_mesh_growth", "mesh/test_mesh_memo"),
    *("observe/test_grafana_genuine", "observe/test_grafana_image", "observe/test_prometheus"),
    *(
        "controllers/test_convergence",
        "schema/test_schema_garbage",
        "api/test_rest_bad_input",
        "sandbox/test_full_disk",
    ),
    "ground/test_labels.py::test_kubectl_reads_the_same_or_refuses_it_in_the_same_words",
    "ground/test_quantity.py::test_kubectl_reads_and_writes_the_same",
    "mesh/test_mesh_fields.py::test_every_field_is_played_or_refused_or_said_not_to_be[VirtualService-False]",
    "schema/test_kind_tables.py::test_the_tables_are_what_their_tool_makes",
    "cluster/test_cluster_pinning.py::test_a_context_that_is_switched_or_led_elsewhere_changes_nothing",
    "cluster/test_cluster_target.py::test_in_a_notebook_labkit_alone_keeps_cells_from_the_readers_cluster",
    "cluster/test_cluster_target.py::test_what_leads_nowhere_never_leads_somewhere_else",
    "images/test_jaeger.py::test_a_minute_at_200_requests_a_second_is_kept_whole",
    "mesh/test_mesh_validation.py::test_rules_that_are_nearly_right",
    "mesh/test_mesh_validation.py::test_whatever_is_sent_is_refused_in_words_or_can_be_translated",
)
"""Folders, files and tests that start pods, programs, kernels or a browser, or try many examples. A single test may as
well say so itself: `pytest.mark.long`."""

LONGEST_FIRST = (
    "notebooks/test_notebooks_play.py::test_each_lesson_can_be_played_again",
    "notebooks/test_notebooks_play.py::test_the_whole_course",
    "notebooks/test_notebooks_play.py::test_the_walk_through",
    # And all that shares its mesh, since a group is where its first test is.
    "e2e/test_control_plane.py",
    "course/test_exercises_resilience.py",
    "e2e/test_kubernetes_answers.py",
    "course/test_exercises_exam.py",
    "notebooks/test_notebooks_precious.py",
    "course/test_exercises_telemetry.py",
    "course/test_exercises_shifting.py",
    "browser",
    "e2e",
    "course/test_course_shared_istio.py",
    "course/test_course_reset.py",
    "walkthrough",
    "course/test_exercises",
    "istio/test_on_a_cluster.py",
    "controllers/test_convergence.py",
    "notebooks",
    "course",
    "surroundings",
    "ui",
    "classroom",
    "mesh",
    "sandbox",
    "cluster",
    "node",
    "images",
)
"""What begins first where tests run side by side, so that no long group is left over at the end; the rest is short."""

AGAIN = (
    # The lessons play all solutions; here each exercise is judged four ways.
    *("course/test_exercises", "browser/test_exercises.py", "notebooks/test_notebooks_precious.py"),
    *("browser/test_kiali_writing.py", "course/test_course_shared_istio.py"),
    *("e2e/test_genuine_bookinfo.py", "e2e/test_genuine_samples.py"),
    # What waits for clocks or for much to be counted.
    *("e2e/test_counts_stay.py", "e2e/test_steady_load.py", "e2e/test_tcp_telemetry.py"),
    *("images/test_prometheus_rests.py", "mesh/test_mesh_warmup_traffic.py"),
    "sandbox/test_faults_told.py::test_a_fault_about_one_object[autoscaler]",
)
"""What is long and depends on much that `make test` holds by itself: `make test-again` has it, so that who waits for
`make test` waits ten minutes."""

OLDER = "1.2.2"
"""Where a long test plays the same in this release as in today's, `make test-again` has it."""

MOST_CPU = float(os.environ.get("LABKIT_MOST_CPU") or "inf")
"""Seconds of its process's time that a test may take, set-up aside: a quick one stays quick on whatever machine."""

_PR_SET_PDEATHSIG = 1


def _place(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).as_posix()


def group(item: pytest.Item) -> str:
    """What shares a worker, and so what was started: a file, and there each value of a module's parameter.

    A value of a session's parameter is a group across the files of a folder; but exercises wait most of their time, so
    that of these each file is one, and a worker that has a mesh goes on with the next of them. The tests of a file
    marked `apart` share nothing: each may run in another worker.
    """
    path = _place(item)
    if item.get_closest_marker("apart"):
        return f"{path} {item.name}"
    if wide := _values(item, "session"):
        folder = path.partition("/")[0]
        return " ".join([path if folder == "course" else f"across {folder}", *wide])
    return " ".join([path, *_values(item, "module")])


def _mark_again(items: Sequence[pytest.Item]) -> None:
    """Mark what is said to be, and what plays in the older release what today's release plays as well."""
    known = {item.nodeid for item in items}
    for item in items:
        if f"{_place(item)}::{item.name}".startswith(AGAIN):
            item.add_marker("again")
        newer = item.nodeid.replace(OLDER, DEFAULT_RELEASE)
        if newer != item.nodeid and newer in known and item.get_closest_marker("long") is not None:
            item.add_marker("again")


def _values(item: pytest.Item, scope: str) -> list[str]:
    """The values of the parameters of its fixtures of this scope."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    made = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    return [str(value) for name, value in parameters.items() if name in made and made[name][-1].scope == scope]


def _rank(item: pytest.Item) -> tuple[int, bool]:
    """A group is where its first test is; there what spoils a shared mesh comes last, so that none is made again."""
    place = f"{_place(item)}::{item.name}"
    found = (number for number, what in enumerate(LONGEST_FIRST) if place.startswith(what))
    shared = bool(_values(item, "session"))
    return next(found, len(LONGEST_FIRST)), shared and item.get_closest_marker("spoils") is not None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if f"{_place(item)}::{item.name}".startswith(LONG) or names & STARTING:
            item.add_marker("long")
    _mark_again(items)
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)
        mesh = {group(item): " ".join(wide) for item in items if (wide := _values(item, "session"))}
        tell(config.workerinput, ((item.nodeid, group(item)) for item in items), mesh)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    began = time.process_time()
    result = yield
    used = time.process_time() - began
    assert used <= MOST_CPU, f"{used:.1f} s of CPU; a quick test has {MOST_CPU:g} s"
    return result


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: two more than there are processors, as tests wait for other processes half of their time."""
    return int(os.environ.get("LABKIT_TEST_WORKERS") or len(os.sched_getaffinity(0)) + 2)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        # By itself a worker goes on for up to 15 s when its controller is killed; its sandboxes end with it.
        controller = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != controller:
            os.kill(os.getpid(), signal.SIGKILL)
