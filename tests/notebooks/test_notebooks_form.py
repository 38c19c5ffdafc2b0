# SPDX-License-Identifier: Apache-2.0
"""The form of the notebooks, and that the check of it finds what is wrong."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit import course
from labkit.course import LESSONS, STAGES
from tests.conftest import REPOSITORY
from tools import check_notebooks, link_notebooks
from tools.steering_notebooks import OWN, lesson_faults, steering_faults

START = REPOSITORY / "notebooks" / link_notebooks.START
NOTEBOOKS = sorted(set(START.parent.glob("*.ipynb")) - {START})
Notebook = dict[str, Any]

QUESTION = "<details><summary>Why?</summary>So.</details>\n"
READ = "https://istio.io/ https://kubernetes.io/ https://www.envoyproxy.io/ https://prometheus.io/"
CLOSING = f"## What was learned\n{QUESTION * 3}{READ}"


def source(cell: Notebook) -> str:
    return "".join(cell["source"])


def test_all_lessons_are_there_and_in_form() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(LESSONS)
    assert [fault for path in NOTEBOOKS for fault in check_notebooks.faults(path)] == []


def test_the_start_page_is_to_be_read_and_maps_the_course(tmp_path: Path) -> None:
    assert list(check_notebooks.start_faults(START)) == []
    for path in NOTEBOOKS[:2]:
        shutil.copy(path, tmp_path)
    notebook = json.loads(START.read_text())
    text = next(cell for cell in notebook["cells"] if cell["id"] == "the-map")
    text["source"] = source(text).replace(f"[{NOTEBOOKS[0].stem}]", "[elsewhere]").replace(f"| {'15'} |", "| 1 |")
    notebook["cells"].append({"cell_type": "code", "id": "run-me", "source": "1"})
    (broken := tmp_path / START.name).write_text(json.dumps(notebook))
    assert list(check_notebooks.start_faults(broken)) == [
        "it has cells to run; it is there to be read",
        *(f"its table lacks {path.stem}, with its link and its minutes" for path in NOTEBOOKS[:2]),
    ]


@pytest.mark.parametrize("path", [START, *NOTEBOOKS], ids=lambda path: path.stem)
def test_links_and_pictures_lead_somewhere(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    targets = [t for c in cells if c["cell_type"] == "markdown" for t in re.findall(r"\]\(([^)]+)\)", source(c))]
    here = [target for target in targets if not target.startswith("https://")]
    missing = [target for target in here if not (path.parent / target.partition("#")[0]).is_file()]
    assert missing == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_lesson_begins_under_its_own_name_and_with_stages_there_are(path: Path) -> None:
    cells = json.loads(path.read_text())["cells"]
    begin = next(source(c) for c in cells if "course.begin(" in source(c))
    assert f'course.begin("{path.stem}", RELEASE, TARGET' in begin
    needs = re.search(r"needs=\[(.*?)\]", begin)
    assert set(re.findall(r'"([\w-]+)"', needs[1] if needs else "")) <= set(STAGES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_ends_in_a_table_that_it_only_waits_for(path: Path) -> None:
    """What waits for requests returns all of them: a hundred rows that nobody has asked for."""
    last = {
        cell["id"]: source(cell).rstrip().splitlines()[-1]
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    }
    assert [where for where, line in last.items() if re.match(r"[\w.]+\.more\(.*\)(?!.*;)", line)] == []


def _no_break(notebook: Notebook) -> None:
    """Nothing is wrong."""


def _outputs(notebook: Notebook) -> None:
    notebook["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]


def _long(notebook: Notebook) -> None:
    notebook["cells"][2]["source"] = "x = 1\n" * 16 + "course.begin("


def _random_id(notebook: Notebook) -> None:
    notebook["cells"][2]["id"] = "0a1b2c3d"


def _twice(notebook: Notebook) -> None:
    notebook["cells"][2]["id"] = notebook["cells"][1]["id"]


def _no_parameters(notebook: Notebook) -> None:
    notebook["cells"][1]["metadata"] = {}


def _other_default(notebook: Notebook) -> None:
    notebook["cells"][1]["source"] = 'RELEASE = "1.30.3"\nTARGET = ""'


def _no_aim(notebook: Notebook) -> None:
    notebook["cells"][0]["source"] = "# Title\n"


def _no_closing(notebook: Notebook) -> None:
    del notebook["cells"][-3]


def _not_done(notebook: Notebook) -> None:
    del notebook["cells"][-2]


def _no_links(notebook: Notebook) -> None:
    del notebook["cells"][-1]


def _other_links(notebook: Notebook) -> None:
    notebook["cells"][-1]["source"] = link_notebooks.links("03-ingress")


def _straight_to_the_end(notebook: Notebook) -> None:
    notebook["cells"][-3]["source"] = "## What was learned\n**What next.** [99](99-clean-up.ipynb) takes it away"


def _sleeps(notebook: Notebook) -> None:
    notebook["cells"][3]["source"] = "check(1)\ntime.sleep(5)"


def _open_solution(notebook: Notebook) -> None:
    notebook["cells"][3]["metadata"] = {"tags": ["solution"]}


def _a_place(notebook: Notebook) -> None:
    notebook["cells"][3]["source"] = "check(open('/home/me/x'))"


def _claims_nothing(notebook: Notebook) -> None:
    notebook["cells"][3]["source"] = "1 + 1"


def _old_format(notebook: Notebook) -> None:
    notebook["nbformat_minor"] = 4


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_no_break, ""),
        (_outputs, "has outputs"),
        (_long, "has 17 lines; at most 15"),
        (_random_id, "its id does not say"),
        (_twice, "its id is there twice"),
        (_no_parameters, "has 0 cells tagged parameters"),
        (_other_default, 'its parameters lack RELEASE = ""'),
        (_no_aim, "its first cell has to give"),
        (_no_closing, "its last text has to say"),
        (_not_done, "its last code has to be lesson.done()"),
        (_no_links, "its last cell has to be its links"),
        (_other_links, "its last cell has to be its links"),
        (_straight_to_the_end, "What next has to lead to 05-grafana"),
        (_sleeps, "it sleeps"),
        (_open_solution, "a solution has to be folded away"),
        (_a_place, "names a folder of somebody's machine"),
        (_claims_nothing, "it claims nothing"),
        (_old_format, "cell ids need 4.5"),
    ],
)
def test_every_fault_of_form_is_found(tmp_path: Path, change: Callable[[Notebook], None], fault: str) -> None:
    def cell(kind: str, cell_id: str, text: str, **metadata: Any) -> Notebook:
        made: Notebook = {"cell_type": kind, "id": cell_id, "metadata": metadata, "source": text}
        return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})

    notebook = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [
            cell("markdown", "title", "# T\n**Aim.** a\n**Time.** b\n**What must be there.** c"),
            cell("code", "parameters", 'RELEASE = ""  # x\nTARGET = ""', tags=["parameters"]),
            cell("code", "begin", "lesson = course.begin()"),
            cell("code", "claim", "check(1)"),
            cell("code", "predict", "prediction = lesson.predict()"),
            cell("code", "look", "%%promql\nup"),
            cell("code", "settle", "prediction.settle()"),
            cell("code", "your-turn", "%%sh\n# Write here."),
            cell("code", "solution-x", "# One way to do it\nx = 1", tags=["solution"], jupyter={"source_hidden": True}),
            cell("markdown", "closing", f"{CLOSING}\n**What next.** [05](05-grafana.ipynb) does d"),
            cell("code", "done", "lesson.done()"),
            cell("markdown", "links", link_notebooks.links("04-prometheus")),
        ],
    }
    changed = copy.deepcopy(notebook)
    change(changed)
    path = tmp_path / "04-prometheus.ipynb"
    path.write_text(json.dumps(changed))
    found = list(check_notebooks.faults(path))
    if fault:
        assert any(fault in one for one in found), found
    else:
        assert found == []


def looking_lesson() -> list[tuple[str, Notebook]]:
    """The cells of a lesson that looks at the mesh, and nothing wrong with them."""
    written = {
        "begin": "lesson = course.begin()",
        "predict": 'prediction = lesson.predict("?", ["a", "b"])',
        "look": "prediction.settle(1)",
        "ask": "seen = 1",
        "your-turn-x": "%%promql\n# Write here.",
        "solution-x": "%%promql\n# One way to do it\nup",
        "done": "lesson.done()",
    }
    cells: list[tuple[str, Notebook]] = [(CLOSING, {"cell_type": "markdown", "id": "closing", "metadata": {}})]
    for name, text in written.items():
        tags = ["solution"] if name == "solution-x" else []
        cells.append((text, {"cell_type": "code", "id": name, "metadata": {"tags": tags}}))
    return cells


def test_every_lesson_has_rules_to_keep() -> None:
    assert list(lesson_faults("04-prometheus", looking_lesson())) == []
    cells = looking_lesson()
    # Two cells to write in, one below the other, are one task.
    turn = next(number for number, (_, cell) in enumerate(cells) if cell["id"] == "your-turn-x")
    cells.insert(turn, ("%%yaml\n# Here too.", cells[turn][1] | {"id": "your-turn-y"}))
    assert list(lesson_faults("04-prometheus", cells)) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("lesson.predict(", "ask(", "it asks for no prediction"),
        (".settle(", ".end(", "or settles none"),
        ("<details>", "", "it asks 0 questions"),
        ("https://istio.io/", "https://example.org/", "it links no page of istio.io"),
        ("kubernetes.io/", "example.org/", "it links no page of kubernetes.io"),
        ("www.envoyproxy.io/", "example.org/", "it links no page of envoyproxy.io"),
        ("prometheus.io/", "example.org/", "it links no page of prometheus.io"),
        ("%%promql\n# Write here.", "# Write here.", "0 of 3 cells are typed"),
        ("# Write here.", "up", "cell your-turn-x: only comments may be in a cell to write in"),
        ("# One way to do it", "# One way: the solution", "cell your-turn-x: its solution has to open with"),
        ("# One way to do it", "# Nothing", "cell your-turn-x: no solution follows"),
        ("%%promql\n# One way to do it", f"# One way to do it {'w' * 39}", "cell solution-x: its first line does not"),
    ],
)
def test_every_fault_of_a_lesson_is_found(old: str, new: str, fault: str) -> None:
    cells = []
    for text, cell in looking_lesson():
        tags = [] if new == "# Nothing" else cell["metadata"].get("tags", [])
        cells.append((text.replace(old, new), cell | {"metadata": {"tags": tags}}))
    assert any(fault in one for one in lesson_faults("04-prometheus", cells)), cells


def test_a_solution_without_a_cell_to_write_in_is_found() -> None:
    cells = [(text, cell) for text, cell in looking_lesson() if cell["id"] != "your-turn-x"]
    found = list(lesson_faults("04-prometheus", cells))
    assert "nobody has to write anything (a cell your-turn-…)" in found
    assert "cell solution-x: a cell to write in, its id your-turn-…, has to come before it" in found


def test_which_site_a_lesson_is_about() -> None:
    assert {path.stem for path in NOTEBOOKS if path.stem[:2] in OWN} == {
        "04-prometheus",
        "05-grafana",
        "06-jaeger",
        "07-kiali",
    }
    (fault,) = lesson_faults("07-kiali", looking_lesson())
    assert fault == "it links no page of kiali.io"


def steering_lesson() -> list[tuple[str, Notebook]]:
    """The cells of a lesson that steers the mesh, and nothing wrong with them."""

    def cell(text: str, cell_id: str = "", *tags: str, kind: str = "code") -> tuple[str, Notebook]:
        return text, {"cell_type": kind, "id": cell_id, "metadata": {"tags": list(tags)}}

    return [
        cell(f"![A](images/a.svg)\n{CLOSING}", kind="markdown"),
        cell('RELEASE = ""', "parameters", "parameters"),
        cell("lesson = course.begin()", "begin"),
        cell('prediction = lesson.predict("?", ["a", "b"])', "predict"),
        cell("seen = 1", "look"),
        cell("prediction.settle(1)", "settle"),
        cell('exercise = lesson.exercise("x")', "exercise"),
        cell("%%yaml\n# Write here.", "your-turn-x"),
        cell("%%yaml\n# One way to do it\na: 1", "solution-x", "solution"),
        cell("exercise.check()", "check-x"),
        cell("lesson.done()", "done"),
    ]


def test_a_lesson_that_steers_the_mesh_has_more_rules_to_keep() -> None:
    assert list(steering_faults(steering_lesson())) == []
    assert list(lesson_faults("08-routing", steering_lesson())) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("](images/", "](x/", "it explains nothing by a picture"),
        ('lesson.exercise("x")', "None", "it has no exercise"),
        ("exercise = lesson", "played = lesson", "exercise x: it is to be shown by"),
        ("# Write here.", "kind: A", "exercise x: an empty cell to write in has to follow"),
        ("exercise.check()", "exercise.look()", "exercise x: it is not checked"),
        ("%%yaml\n# Write here.", "# Write here.", "exercise x: an empty cell to write in has to follow"),
    ],
)
def test_every_fault_of_a_lesson_that_steers_is_found(old: str, new: str, fault: str) -> None:
    cells = [(text.replace(old, new), cell) for text, cell in steering_lesson()]
    assert any(fault in one for one in steering_faults(cells)), list(steering_faults(cells))


def test_links_are_written_as_the_lessons_are_ordered(tmp_path: Path) -> None:
    names = list(course.LESSONS)
    assert link_notebooks.links(names[0]).count("](") == 3, "none before the first"
    assert link_notebooks.links(names[-1]).count("](") == 3, "none after the last"
    assert re.findall(r"\]\((.*?)\)", link_notebooks.links("03-ingress")) == [
        "02-bookinfo.ipynb",
        link_notebooks.START,
        link_notebooks.GLOSSARY,
        "04-prometheus.ipynb",
    ]
    path = tmp_path / "03-ingress.ipynb"
    path.write_text((REPOSITORY / "notebooks" / path.name).read_text())
    assert not link_notebooks.write(path), "there they are"
    notebook = json.loads(path.read_text())
    notebook["cells"][-1]["source"] = ["elsewhere"]
    path.write_text(json.dumps(notebook))
    assert link_notebooks.write(path)
    assert path.read_text() == (REPOSITORY / "notebooks" / path.name).read_text()


def test_what_is_no_notebook_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.ipynb").write_text("{")
    assert [fault.split(":")[0] for fault in check_notebooks.faults(tmp_path / "notes.ipynb")] == [
        "its name is not NN-name",
        "it is not JSON",
    ]
