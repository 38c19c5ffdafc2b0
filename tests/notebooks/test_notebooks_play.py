# SPDX-License-Identifier: Apache-2.0
"""The course as a user plays it: `labkit run`, both releases, and every notebook a second time."""

from __future__ import annotations

import html
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from labkit.course import choose, chosen, lessons, runner
from labkit.course.lanes import lacking
from tests.classroom.book import is_a_book
from tests.conftest import REPOSITORY, SandboxUnderTest, wait_until

pytestmark = pytest.mark.apart

FIGURE = "application/vnd.plotly.v1+json"
RELEASES = ["1.2.2", "1.30.3"]


def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return {
        **os.environ,
        "HOME": str(home),
        "LABKIT_HOME": str(tmp_path / "labkit"),
        "IPYTHONDIR": str(home / "ipython"),
    }


def still_running(tmp_path: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(tmp_path) in " ".join([*process.cmdline(), process.environ().get("LABKIT_HOME", "")]):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def play(tmp_path: Path, release: str, played: Sequence[str], *named: str) -> Path:
    """Have `labkit run` play lessons; the folder with what came of it."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "labkit", "run", "--release", release, "--out", str(out), *named]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(tmp_path), capture_output=True, text=True, timeout=1150
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Of two lanes each ends its lessons in its own time; how many there are is told once, where no lesson is named.
    lines = done.stdout.splitlines()[:-1]
    if not named:
        assert lines.pop(0).startswith(("Two lanes side by side, ", "One lesson after the other: "))
    assert sorted(line.split()[:2] for line in lines) == [["✔", name] for name in played]
    suite = ET.parse(out / "junit.xml").getroot()
    assert [case.get("name") for case in suite] == list(played)
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == (str(len(played)), "0", "0")

    page = (out / "report.html").read_text()
    assert f"{len(played)} of {len(played)} notebooks passed" in page
    for said in ("Simple Bookstore App", "istio-ingressgateway", "details-v1", "Plotly.newPlot", "Nothing is left"):
        assert said in page, said
    assert "data:image/svg" in page, "pictures are inside the page"
    for name in played:
        executed = nbformat.read(out / f"{name}.ipynb", as_version=4)
        assert all(c.execution_count for c in executed.cells if c.cell_type == "code" and c.source.strip("# \n"))
        stderr = [o.text for c in executed.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
        assert stderr == [], name
    wait_until(lambda: still_running(tmp_path) == [], what="everything of the run to end")
    assert not (tmp_path / "home" / ".kube").exists()
    return out


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("release", RELEASES)
def test_the_walk_through(tmp_path: Path, release: str) -> None:
    """From an empty Kubernetes to BookInfo behind the ingress, its metrics, and cleanly back."""
    walked = [name for name in lessons(release) if not "05" <= name[:2] < "99"]
    play(tmp_path, release, walked, *walked)


@pytest.mark.again
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("release", RELEASES)
def test_the_whole_course(tmp_path: Path, release: str) -> None:
    out = play(tmp_path, release, lessons(release))
    the_book_of_what_was_played(tmp_path / "book", out, release)


def the_book_of_what_was_played(book: Path, out: Path, release: str) -> None:
    """What a reader has who runs nothing: each page has all that its lesson showed, and no lesson is played for it."""
    command = ["course", "export", "--edition", "book", "--release", release, "--played", str(out), "--out", str(book)]
    subprocess.run([sys.executable, "-m", "labkit", *command], cwd=REPOSITORY, check=True, timeout=600)
    for name, text in is_a_book(book, release).items():
        executed = nbformat.read(out / f"{name}.ipynb", as_version=4)
        outputs = [one for cell in executed.cells for one in cell.get("outputs", [])]
        assert len(outputs) > 5, name
        shown, said = [one.data for one in outputs if "data" in one], words(text)
        assert text.count("Plotly.newPlot(") == sum(FIGURE in data for data in shown), name
        for markup in (data["text/html"] for data in shown if "text/html" in data and FIGURE not in data):
            assert words(markup) in said, name
        assert 'class="ansi-red' not in text, "no error"


def words(markup: str) -> str:
    """What is read of it: nbconvert's cleaner puts attributes into another order, and leaves some out."""
    bare = re.sub(r"<(style|script)\b.*?</\1>|<[^>]*>", " ", "".join(markup), flags=re.DOTALL)
    return " ".join(html.unescape(bare).split())


@pytest.mark.again
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("release", [pytest.param("1.2.2", marks=pytest.mark.thorough), "1.30.3"])
def test_each_lesson_can_be_played_again(
    tmp_path: Path, release: str, start_sandbox: Callable[..., SandboxUnderTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = start_sandbox(release)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LABKIT_HOME", str(sandbox.labkit_home))
    notebooks = runner.course_notebooks(release)
    twice = [path for path in notebooks for _ in range(2)]
    results = []
    for number, path in enumerate(twice):
        out = tmp_path / f"{number}.ipynb"
        monkeypatch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
        results.append(runner.play(path, out, {"RELEASE": release, "TARGET": "sandbox"}))
        assert results[-1].outcome == "passed", results[-1].story()
    assert [r.notebook for r in results] == [name for name in lessons(release) for _ in range(2)]


def test_a_lesson_without_what_it_needs_says_what_to_play(
    tmp_path: Path, start_sandbox: Callable[..., SandboxUnderTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the course runs on was chosen; what the notebook is given wins over it, for that run."""
    sandbox = start_sandbox("1.30.3", name="default")
    start_sandbox("1.2.2", name="istio-1-2-2", home=sandbox.labkit_home)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LABKIT_HOME", str(sandbox.labkit_home))
    monkeypatch.setenv("KUBECONFIG", str(sandbox.kubeconfig))
    choose(release="1.2.2")
    path = REPOSITORY / "notebooks" / "03-ingress.ipynb"
    given: list[tuple[dict[str, object], str]] = [({"RELEASE": "1.30.3", "TARGET": "sandbox"}, "1.30.3"), ({}, "1.2.2")]
    for parameters, release in given:
        result = runner.play(path, tmp_path / "03.ipynb", parameters)
        assert (result.outcome, result.cell) == ("failed", "begin")
        assert "not so: Istio is installed and ready" in result.error
        assert "Play 01-install-istio first" in result.error
        assert f'course.catch_up("istio", "{release}")' in result.error
        assert "Traceback" not in result.error
    assert chosen().release == "1.2.2"


@pytest.mark.timeout(1200)
def test_a_cluster_of_the_readers_own(
    tmp_path: Path, start_sandbox: Callable[..., SandboxUnderTest], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same cells where the target is a context of a kubeconfig, and nothing tells what cluster it is."""
    sandbox = start_sandbox("1.30.3")
    own = tmp_path / "own-kubeconfig"
    own.write_text(sandbox.kubeconfig.read_text().replace(f"labkit-{sandbox.name}", "class"))
    own.chmod(0o600)
    notebooks = [f"notebooks/{name}.ipynb" for name in ("00-kubernetes", "01-install-istio", "99-clean-up")]
    command = [sys.executable, "-m", "labkit", "run", "--release", "1.30.3", "--target", "class", "--confirm", "class"]
    command += ["--out", str(tmp_path / "out"), *notebooks]
    env = environment(tmp_path) | {"KUBECONFIG": str(own)}
    done = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=1150)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "kubectl --context class get nodes -o wide" in page
    assert "$ labkit up" not in page
    assert not (tmp_path / "labkit" / "sandboxes").exists()


BREAKS = nbformat.v4.new_notebook(
    cells=[nbformat.v4.new_code_cell("1 / 0", id="fails")],
    metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
)


def need_lanes(number: int) -> None:
    """Two lanes are refused where there is no room for them, which is no fault."""
    if number == 2 and (lacks := lacking()):
        pytest.skip(lacks)


def test_two_lanes_of_which_one_breaks_off(tmp_path: Path) -> None:
    """Each on a sandbox of its own: one begins with an empty Kubernetes, the other at its lesson's start."""
    need_lanes(2)
    broken = tmp_path / "01-breaks.ipynb"
    nbformat.write(BREAKS, broken)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "labkit", "run", "--lanes", "2", "--out", str(out), "00-kubernetes", str(broken)]
    command += ["02-bookinfo", "13-identity", "99-clean-up"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(tmp_path), capture_output=True, text=True, timeout=1150
    )
    assert done.returncode == 1, done.stdout + done.stderr
    suite = ET.parse(out / "junit.xml").getroot()
    told = {case.get("name"): [(one.tag, one.get("message")) for one in case] for case in suite}
    assert list(told.items()) == [
        ("00-kubernetes", []),
        ("01-breaks", [("failure", "cell fails: ZeroDivisionError: division by zero")]),
        ("02-bookinfo", [("skipped", "01-breaks failed")]),
        ("13-identity", []),
        ("99-clean-up", []),
    ], done.stdout + done.stderr
    page = (out / "report.html").read_text()
    assert "3 of 5 notebooks passed" in page
    assert "Nothing is left" in page
    assert sorted(path.name for path in out.glob("*.log")) == ["sandbox-lane-1.log"]
    first, *lines, last = done.stdout.splitlines()
    assert first.startswith("Two lanes side by side, each on a sandbox of its own: ")
    assert sorted(line.split()[1] for line in lines) == sorted(name for name in told if name)
    assert last == f"1 failed: {out / 'report.html'}"
    wait_until(lambda: still_running(tmp_path) == [], what="everything of the run to end")
    assert list((tmp_path / "labkit" / "sandboxes").iterdir()) == []


@pytest.mark.parametrize(
    ("lanes", "how"),
    [("1", signal.SIGTERM), *(("2", how) for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL))],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_run_that_is_told_to_end_takes_all_along(
    tmp_path: Path, until: Callable[..., Any], lanes: str, how: signal.Signals
) -> None:
    need_lanes(int(lanes))
    command = [sys.executable, "-m", "labkit", "run", "--lanes", lanes, "--out", str(tmp_path / "out")]
    begun = [tmp_path / "out" / f"{name}.ipynb" for name in ("00-kubernetes", "13-identity")[: int(lanes)]]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell that started the tests in the background has them ignore SIGINT, and so would this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        until(lambda: all(path.exists() for path in begun) or run.poll() is not None, what="each lane to play")
        assert run.poll() is None, run.communicate()[0]
        run.send_signal(how)
        said, _ = run.communicate(timeout=120)
        assert run.returncode == (-how if how == signal.SIGKILL else 130), said
    assert "Traceback" not in said
    until(lambda: still_running(tmp_path) == [], what="everything of the run to end")
    assert list((tmp_path / "labkit" / "sandboxes").iterdir()) == []
