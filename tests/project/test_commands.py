# SPDX-License-Identifier: Apache-2.0
"""Each command on our pages is one that there is, and the ones for a sandbox are played as they stand there."""

from __future__ import annotations

import functools
import itertools
import os
import re
import subprocess
from pathlib import Path

import pytest

import labkit.cli
import meshbox.cli
from labkit import sandbox
from labkit.ground import config
from tests.conftest import BIN, REPOSITORY
from tests.project.commands import blocks, lines, targets, variables, words

PAGES = sorted(
    page for page in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")) if "```shell" in page.read_text()
)

PLAYED = {
    "check": (".ci/run", "make check"),
    "test-quick": (".ci/run", "make test-quick"),
    "test": (".ci/run", "CI_TARGETS:-test test-again"),
    "test-again": (".ci/run", "CI_TARGETS:-test test-again"),
    "coverage": (".ci/run", "make check"),
    "test-thorough": ("tests/thorough/conftest.py", "make test-thorough"),
    "workshop": ("tests/notebooks/test_notebooks_play.py", '"run", "--release", release, "--out"'),
    "lab": ("tests/ui/test_ui_lab.py", "jupyterlab"),
    "setup": (".ci/run", "labkit setup"),
    "dist": ("tests/project/test_release.py", '"-m", "build"'),
    "clean": ("tests/e2e/test_lifecycle.py", "--delete"),
    "bench": ("tests/project/test_commands.py", "bench"),
    "pictures": ("tests/browser/test_pictures.py", "LABKIT_PICTURES"),
}
"""What plays the recipe of a target that a page names, with a word of it that is found there."""

ELSEWHERE = {
    "git clone": "a clone is what CI begins with (.ci/run)",
    "git switch": "git's own",
    "git tag": "what .github/workflows/release.yml begins with",
    "git push": "git's own",
    "cd": "the shell's own",
    "conda env": "tests/surroundings/test_installed.py",
    "conda activate": "conda's own",
    "pip install": "tests/surroundings/test_installed.py",
    "/opt/tljh/user/bin/pip": "docs/teaching.md says that nobody has tried it",
    "/opt/tljh/user/bin/labkit": "docs/teaching.md says that nobody has tried it",
    "tljh-config": "JupyterHub's own",
    "cp": "the system's own",
    "install": "the system's own",
}
"""Commands that are nothing of ours, and where what they bring is held."""

COMMANDS = [
    pytest.param(command, id=f"{page.name}: {' '.join(command)}")
    for page in PAGES
    for block in blocks(page)
    for line in lines(block)
    for command in words(line)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_it_is_a_command_that_there_is(command: list[str]) -> None:
    _there_is([word.removeprefix(".venv/bin/") for word in command])


def _there_is(command: list[str]) -> None:
    program, *arguments = command
    if program == "make":
        _make(arguments)
    elif program in ("labkit", "meshbox"):
        _ours(program, arguments)
    elif program == "eval":
        inner = re.fullmatch(r"\$\((.*)\)", arguments[0])
        assert inner, command
        _there_is(inner[1].split())
    elif program == "kubectl":
        assert arguments[0] in ("get", "apply"), "played below"
    elif program in ("python", "pytest"):
        _python(program, arguments)
    else:
        assert " ".join(command[:2]) in ELSEWHERE or program in ELSEWHERE, command


def _make(arguments: list[str]) -> None:
    for argument in arguments:
        name, given, _ = argument.partition("=")
        if given:
            assert name in variables() | {"LABKIT_TEST_WORKERS"}, argument
        else:
            assert name in targets(), argument
            where, word = PLAYED[name]
            assert word in (REPOSITORY / where).read_text(), (name, where)
    assert _planned(*arguments) == ""


@functools.cache
def _planned(*arguments: str) -> str:
    """Why make cannot do it; "" if it can. Pages name some targets a dozen times."""
    done = subprocess.run(["make", "-n", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    return "" if done.returncode == 0 else done.stderr or "make fails without a word"


def _ours(program: str, arguments: list[str]) -> None:
    whose = meshbox.cli if program == "meshbox" or arguments[0] in sandbox.COMMANDS else labkit.cli
    # What follows "--" is another program's.
    arguments = ["1" if word.startswith("$") else word for word in itertools.takewhile("--".__ne__, arguments)]
    whose._parser().parse_args(arguments)


def _python(program: str, arguments: list[str]) -> None:
    if program == "python":
        assert arguments[0] == "-m"
        program, arguments = arguments[1], arguments[2:]
    if program == "pytest":
        for argument in arguments:
            if not argument.startswith("-") and "/" in argument:
                assert (REPOSITORY / argument.partition("::")[0]).exists(), argument
    else:
        assert (REPOSITORY / f"{program.replace('.', '/')}.py").is_file() or program == "venv", program


def _section(heading: str) -> str:
    """The shell blocks of a section of the README, as one script."""
    text = (REPOSITORY / "README.md").read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"^```shell\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


@pytest.mark.long
@pytest.mark.parametrize("heading", ["A sandbox by hand", "meshbox by itself"])
def test_a_sandbox_is_played_as_the_readme_says(heading: str, tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: hello}}\n")
    script = _section(heading).replace("…", "hello.yaml")
    # What a test run that is killed has started ends with it.
    bound = "".join(
        f'{name}() {{ if [ "$1" = up ]; then set -- "$@" --with-pid {os.getpid()}; fi; command {name} "$@"; }}\n'
        for name in ("labkit", "meshbox")
    )
    environment = {
        **{name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
        "HOME": str(tmp_path),
        "LABKIT_HOME": str(tmp_path / "labkit"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", bound + script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    release = "1.30.3" if "--release 1.30.3" in script else config.DEFAULT_RELEASE
    for said in (f"is running: Istio {release}", "Ready" if "get nodes" in script else "hello created", "is stopped"):
        assert said in done.stdout, done.stdout


def test_what_the_readme_says_of_failures_is_what_is_said() -> None:
    """Each message in the table of troubles is one that the code has; … stands for what differs."""
    text = (REPOSITORY / "README.md").read_text()
    table = text.split("\n## When something goes wrong\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)
    assert len(rows) >= 10
    sources = [*(REPOSITORY / "labkit").rglob("*.py"), *(REPOSITORY / "meshbox").rglob("*.py"), REPOSITORY / "Makefile"]
    # Texts that go on in the next line, as the interpreter reads them.
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text() for path in sources))
    for row in rows:
        for part in row.split("…"):
            assert part.strip() in code, (row, part)


def test_one_address_of_the_repository_throughout() -> None:
    """OWNER/REPOSITORY until it has one; then the same wherever it is named."""
    named = set()
    for page in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")):
        named |= set(
            re.findall(
                r"(?:mybinder\.org/v2/gh|git\+https://github\.com)/([\w.-]+/[\w.-]+?)(?:/|@|\.git|\))", page.read_text()
            )
        )
        named |= set(re.findall(r"uses: ([\w.-]+/[\w.-]+)/\.github", page.read_text()))
    assert len(named) <= 1, named
