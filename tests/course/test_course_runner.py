# SPDX-License-Identifier: Apache-2.0
"""The papermill runner: results, reports, failures that name notebook and cell, and no kernel left."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit import display
from labkit.course import kernels as managers
from labkit.course import runner
from labkit.course.result import Result
from labkit.ground.config import kernel_settings
from labkit.ground.errors import NotebookError
from tests.conftest import PATIENCE, REPOSITORY

PARAMETERS = 'RELEASE = "1.2.2"\nTARGET = "sandbox"'


def notebook(folder: Path, name: str, *cells: tuple[str, str], parameters: str = PARAMETERS) -> Path:
    parts = [new_markdown_cell(f"# {name}", id="title")]
    if parameters:
        parts.append(new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}))
    parts += [new_code_cell(source, id=cell_id) for cell_id, source in cells]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=parts, metadata=spec), path)
    return path


def kernels() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "ipykernel" in " ".join(p.cmdline())]


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


def test_a_run_with_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = notebook(
        tmp_path, "00-first",
        ("says-hello", "import os\nprint('hello from', RELEASE, TARGET, os.environ['KUBECONFIG'])"),
        ("shows-html", "from labkit import display\ndisplay.code('kind: Gateway')"),
        ("draws", "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1, 2]), layout={'title': 'Requests'})"),
    )  # fmt: skip
    second = notebook(
        tmp_path, "01-second",
        ("goes-well", "1 + 1"),
        (
            "claims-too-much",
            "import sys\nfrom labkit import display\nfrom labkit.ground.errors import *\n"
            "print('\x1b[31mseen\x1b[0m: 1')\ndisplay.show(display.message('a table', 'note'))\n"
            "print('late', file=sys.stderr)\nraise CheckError('not so: 2/2', next_step='Look.')",
        ),
        ("never-reached", "print('no')"),
    )  # fmt: skip
    third = notebook(tmp_path, "02-third", ("is-skipped", "1"))
    clean_up = notebook(tmp_path, "99-clean-up", ("cleans", "1"))
    out = tmp_path / "out"
    results = runner.run([first, second, third, clean_up], release="1.30.3", kubeconfig="/the/config", out=out)

    assert [(r.notebook, r.outcome) for r in results] == [
        ("00-first", "passed"),
        ("01-second", "failed"),
        ("02-third", "skipped"),
        ("99-clean-up", "passed"),
    ]
    assert results[0].cells == 5, "the four cells and papermill's parameters"
    assert (results[1].cell, results[1].error) == ("claims-too-much", "not so: 2/2\n→ Look.")
    told = results[1].story().splitlines()
    assert told[:3] == ["01-second, cell claims-too-much:", "not so: 2/2", "→ Look."]
    assert [line.strip() for line in told[3:]] == ["seen: 1", "ℹ a table", "late"], "what the cell had shown, each once"
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("✔ 00-first")
    assert printed[1] == "✘ 01-second          cell claims-too-much: not so: 2/2"
    assert printed[2] == "○ 02-third           not played: 01-second failed"
    assert kernels() == []
    assert "KUBECONFIG" not in os.environ or os.environ["KUBECONFIG"] != "/the/config"

    played = nbformat.read(out / "00-first.ipynb", as_version=4)
    said = next(c for c in played.cells if c.id == "says-hello").outputs[0].text
    assert said == "hello from 1.30.3 sandbox /the/config\n"

    page = (out / "report.html").read_text()
    assert "3 of 4" not in page
    assert "2 of 4 notebooks passed" in page
    assert "hello from 1.30.3 sandbox" in page
    assert "claims-too-much" in page
    assert "Plotly.newPlot" in page
    assert 'src="http' not in page, "the page needs nothing from elsewhere"
    colours = set(re.findall(r"var\((--jp-[\w-]+)\)", display.style().html))
    assert {name for name in colours if f"{name}: #" not in page} == set(), "figures take colours that are not there"
    assert "--jp-layout-color2" in colours
    assert "An Exception was encountered" not in page
    style = (REPOSITORY / "labkit" / "display.css").read_text()
    wanted = set(re.findall(r"var\((--jp-[\w-]+)\)", style))
    assert wanted, "figures take colours of JupyterLab's"
    assert wanted <= set(re.findall(r"(--jp-[\w-]+):", page)), "which the page has to have itself"

    suite = ET.parse(out / "junit.xml").getroot()
    assert {k: suite.get(k) for k in ("tests", "failures", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "skipped": "1",
    }
    failure = suite.find("testcase[@name='01-second']/failure")
    assert failure is not None
    assert failure.get("message") == "cell claims-too-much: not so: 2/2"


def test_the_folder_of_the_results_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = notebook(tmp_path, "a", ("one", "1"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    results = runner.run([path], release="1.2.2", kubeconfig="", out=Path("build/played"), progress=False)
    assert [(r.outcome, r.error) for r in results] == [("passed", "")]
    names = sorted(p.name for p in (tmp_path / "elsewhere/build/played").iterdir())
    assert names == ["a.ipynb", "junit.xml", "report.html"]


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.ipynb").write_text("{}")
    (out / "mine.txt").write_text("kept")
    results = runner.run(
        [notebook(tmp_path, "a", ("one", "1"))], release="1.2.2", kubeconfig="", out=out, progress=False
    )
    assert [r.outcome for r in results] == ["passed"]
    assert sorted(p.name for p in out.iterdir()) == ["a.ipynb", "junit.xml", "mine.txt", "report.html"]


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import os; os._exit(3)", "the kernel died"),
        ("def (", "SyntaxError"),
    ],
)
def test_every_failure_names_its_cell(tmp_path: Path, source: str, error: str) -> None:
    path = notebook(tmp_path, "bad", ("fine", "1"), ("breaks", source))
    result = runner.play(path, tmp_path / "out.ipynb", {"RELEASE": "1.2.2"})
    assert (result.outcome, result.cell) == ("failed", "breaks")
    assert error in result.error
    assert kernels() == []


def test_a_cell_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CELL_TIMEOUT", 1)
    # Alone: another cell before it would have to be quicker than that second.
    path = notebook(tmp_path, "slow", ("waits", "import time\ntime.sleep(600)"), parameters="")
    result = runner.play(path, tmp_path / "out.ipynb", {})
    assert (result.outcome, result.cell, result.error) == ("failed", "waits", "the cell did not end within 1 s")
    assert kernels() == []


def test_a_file_that_is_no_notebook(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("not json")
    result = runner.play(tmp_path / "a.ipynb", tmp_path / "out.ipynb", {})
    assert result.outcome == "failed"
    assert "NotJSONError" in result.error


def test_a_notebook_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"there is no notebook .*nope\.ipynb"):
        runner.main(release="1.2.2", target="sandbox", out=tmp_path / "out", notebooks=[tmp_path / "nope.ipynb"])


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ([Result("00-kubernetes", "failed", cell="ask-httpbin")], True),
        ([Result("00-kubernetes", "failed", cell="begin")], False),
        ([Result("00-kubernetes", "failed", cell="ask-httpbin"), Result("99-clean-up", "passed")], False),
        ([Result("00-kubernetes", "passed"), Result("99-clean-up", "failed", cell="begin")], True),
        ([Result("00-kubernetes", "passed")], False),
    ],
)
def test_what_is_left_on_a_cluster_of_ones_own_is_told(
    results: list[Result],
    told: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setattr(runner, "run", lambda *_, **__: results)
    code = runner.main(release="1.30.3", target="mine", out=tmp_path, notebooks=[Path(one.notebook) for one in results])
    assert code == any(one.outcome == "failed" for one in results)
    words = (
        "What these lessons made, if anything, is still on mine; `labkit run 99-clean-up --release 1.30.3 "
        "--target mine --confirm mine` removes it."
    )
    assert (words in capsys.readouterr().err) is told


def test_a_killed_run_leaves_no_kernel(tmp_path: Path, until: Callable[..., Any]) -> None:
    tells = f"import os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    path = notebook(tmp_path, "long", ("tells", tells), ("waits", "import time\ntime.sleep(600)"))
    code = (
        "import sys; from pathlib import Path; from labkit.course import runner\n"
        f"runner.play(Path({str(path)!r}), Path({str(tmp_path / 'o.ipynb')!r}), {{}})\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as run:
        kernel = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 30, "the kernel"))
        run.send_signal(signal.SIGKILL)
    until(lambda: not psutil.pid_exists(kernel), 10, "the kernel to end")


STATE = """
import os, sys
names, warm = dir(), "labkit.ui" in sys.modules
# Once labkit is there, KUBECONFIG itself leads nowhere until a lesson begins.
from labkit.cluster import Target
print((names, os.getcwd(), Target.from_environment().kubeconfig, warm))
"""


def test_the_next_kernel_starts_early_and_is_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    first = notebook(tmp_path, "a", ("state", STATE), ("time", "import time\ntime.time()"))
    born = "import psutil\npsutil.Process().create_time()"
    second = notebook(tmp_path / "sub", "b", ("state", STATE), ("time", born))
    out = tmp_path / "out"
    results = runner.run([first, second], release="1.2.2", kubeconfig="/the/config", out=out, progress=False)
    assert [r.outcome for r in results] == ["passed", "passed"]

    def told(name: str) -> tuple[tuple[list[str], str, str, bool], float]:
        outputs = {c.id: c.get("outputs") for c in nbformat.read(out / f"{name}.ipynb", as_version=4).cells}
        return ast.literal_eval(outputs["state"][0].text), float(outputs["time"][0].data["text/plain"])

    (names, folder, settings, warm), ends = told("a")
    (other_names, other_folder, other_settings, other_warm), begins = told("b")
    assert (names, settings) == (other_names, other_settings)
    assert (folder, other_folder) == (str(tmp_path), str(tmp_path / "sub"))
    assert (warm, other_warm) == (False, True)
    assert begins < ends
    assert sorted(p.name for p in out.iterdir()) == ["a.ipynb", "b.ipynb", "junit.xml", "report.html"]
    assert kernels() == []


KILL = """
import os, psutil, signal, time
begun, others = time.monotonic(), []
while not others and time.monotonic() < begun + 240:
    seen = [p for p in psutil.process_iter(["cmdline", "ppid"]) if p.info["ppid"] == os.getppid()]
    others = [p for p in seen if p.pid != os.getpid() and "ipykernel_launcher" in " ".join(p.info["cmdline"] or [])]
others[0].send_signal(signal.SIGKILL)
open("out/b.kernel.log", "a").write("Address already in use")
len(others)
"""


@pytest.mark.parametrize(
    ("source", "told"), [("1", ("passed", "")), ("1 / 0", ("failed", "ZeroDivisionError: division by zero"))]
)
def test_a_kernel_that_died_before_its_turn_is_replaced(tmp_path: Path, source: str, told: tuple[str, str]) -> None:
    """And what it complained of is not kept as if it were the other one's."""
    paths = [notebook(tmp_path, "a", ("kills", KILL)), notebook(tmp_path, "b", ("plays", source))]
    results = runner.run(paths, release="1.2.2", kubeconfig="", out=tmp_path / "out", progress=False)
    assert [(r.outcome, r.error) for r in results] == [("passed", ""), told]
    assert list((tmp_path / "out").glob("*.log")) == []
    assert kernels() == []


ENDS = """
import atexit, json, pathlib

class Torn:
    def __del__(self, touch=pathlib.Path("torn").touch):
        touch()

json.kept = Torn()
atexit.register(pathlib.Path("in order").touch)
"""


def test_a_kernel_puts_all_in_order_and_takes_nothing_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Jupyter sends a signal to whoever has not ended after half of this time, five seconds where nothing is said.
    monkeypatch.setattr(managers, "kernel_settings", lambda: {**kernel_settings(), "shutdown_wait_time": 2 * PATIENCE})
    paths = [notebook(tmp_path, name, ("ends", ENDS.replace("in order", name))) for name in ("a", "b")]
    results = runner.run(paths, release="1.2.2", kubeconfig="", out=tmp_path / "out", progress=False)
    assert [r.outcome for r in results] == ["passed", "passed"]
    assert [(tmp_path / name).exists() for name in ("a", "b", "torn")] == [True, True, False]


def test_a_run_that_is_told_to_end_waits_for_no_finalizer(tmp_path: Path) -> None:
    """As ZeroMQ's does where a kernel was just beginning: what is to be done at the end is done all the same."""
    code = """
import atexit, pathlib, sys, threading
from labkit import display
from labkit.course import runner
from labkit.course.result import Result

class Waits:
    def __del__(self):
        threading.Event().wait()

def interrupted(*_, **__):
    raise KeyboardInterrupt

kept = Waits()
atexit.register(print, "done at the end")
runner._in_one = interrupted
runner.main(release="1.30.3", target="sandbox", out=pathlib.Path(sys.argv[1]), notebooks=[], lanes=1)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, timeout=300, cwd=REPOSITORY
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "done at the end\n", "labkit: interrupted\n")
