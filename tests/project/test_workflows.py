# SPDX-License-Identifier: Apache-2.0
"""CI's workflows: they say what the README says, with actions and rights that somebody chose."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from labkit.istio.fetch import archive_url
from labkit.istio.releases import facts
from tests.conftest import BIN, REPOSITORY
from tests.istio.mirror import archive, serve
from tests.project.commands import WORKFLOWS, lines, steps, targets, words, workflows

PLAYED = {
    "check": ".ci/run",
    "test-quick": ".ci/run",
    "test": ".ci/run",
    "test-again": ".ci/run",
    "test-thorough": "tests/project/test_commands.py",
    "dist": "tests/project/test_release.py",
}
"""What CI may ask make for, and what plays it here as well."""

OTHERS = {
    "pip": "installs what is played",
    "labkit": "played in tests/project/test_commands.py, and by tests/notebooks/test_notebooks_play.py",
    "gh": "GitHub's own, on its machines",
    "python": "one of tools/, each with a test",
    "sudo": "sets up GitHub's machine",
    "mkdir": "",
    "test": "",
    "export": "",
    "echo": "",
}
"""What CI may run besides make."""

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"

SHELL = [(where, step["run"]) for where, step in steps() if "run" in step]


def test_each_make_target_is_there_and_played_here() -> None:
    asked = [command for _, text in SHELL for line in lines(text) for command in words(line) if command[0] == "make"]
    assert {command[1] for command in asked} == set(PLAYED)
    for target, where in PLAYED.items():
        assert target in targets()
        text = (REPOSITORY / where).read_text()
        assert f"make {target}" in text or f'"{target}"' in text or target in _by_default(text)


def _by_default(script: str) -> list[str]:
    """The targets that .ci/run asks make for, one after the other, unless it is told others."""
    found = re.search(r"CI_TARGETS:-([a-z -]+)", script)
    return found[1].split() if found else []


def test_the_readme_names_what_ci_runs() -> None:
    pages = "".join((REPOSITORY / page).read_text() for page in ("README.md", "CONTRIBUTING.md", "docs/ci.md"))
    for target in PLAYED:
        assert f"make {target}" in pages, target


@pytest.mark.parametrize(("where", "text"), SHELL)
def test_nothing_else_is_run(where: str, text: str) -> None:
    for line in lines(text):
        for command in words(line):
            assert command[0] == "make" or command[0] in OTHERS, (where, command)
            if command[:2] == ["python", "-m"]:
                name = command[2].removeprefix("tools.")
                assert (REPOSITORY / "tools" / f"{name}.py").is_file()
                assert any(f"tools.{name}" in path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py"))


def test_what_users_give_never_becomes_shell() -> None:
    for where, text in SHELL:
        assert "${{" not in text, f"{where}: {text}: hand it over by env"


def test_actions_are_pinned() -> None:
    """GitHub's own by their major version, others by the whole one or a commit."""
    for where, step in steps():
        if uses := step.get("uses"):
            own = re.fullmatch(r"actions/[a-z-]+@v\d+", uses)
            assert own or re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+\.\d+\.\d+|[0-9a-f]{40})", uses), (where, uses)


def test_nothing_may_write_but_what_publishes() -> None:
    for name, workflow in workflows().items():
        assert workflow["permissions"] == {"contents": "read"}, name
        for job, said in workflow["jobs"].items():
            rights = said.get("permissions")
            assert rights is None or (name, job, rights) == ("release.yml", "publish", {"contents": "write"})
    publish = workflows()["release.yml"]["jobs"]["publish"]["steps"]
    assert not any(step.get("uses", "").startswith("actions/checkout") for step in publish)


def test_checkouts_keep_no_credentials() -> None:
    for where, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, where


def test_each_job_ends_and_each_workflow_knows_its_neighbours() -> None:
    for name, workflow in workflows().items():
        jobs = workflow["jobs"].values()
        assert "concurrency" in workflow or all("concurrency" in job for job in jobs), name
        assert all("timeout-minutes" in job or "uses" in job for job in jobs), name


def test_every_python_that_the_project_promises_is_tested() -> None:
    promised = re.search(r'requires-python = ">=3\.(\d+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert promised
    tested = workflows()["ci.yml"]["jobs"]["quick"]["strategy"]["matrix"]["python"]
    assert tested == [f"3.{minor}" for minor in range(int(promised[1]), 15)]


def test_both_releases_and_both_clusters_are_played_at_night() -> None:
    called = workflows()["thorough.yml"]["jobs"]["course"]
    assert called["uses"] == "./.github/workflows/workshop.yml"
    assert called["with"] == {"clusters": '["sandbox", "kind"]', "releases": '["1.2.2", "1.30.3"]'}


def test_the_template_for_other_repositories_calls_what_is_there() -> None:
    page = (REPOSITORY / "docs" / "ci.md").read_text()
    template = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    called = template["jobs"]["notebooks"]
    assert called["uses"].startswith("OWNER/REPOSITORY/.github/workflows/workshop.yml@v")
    inputs = workflows()["workshop.yml"][True]["workflow_call"]["inputs"]
    assert set(called["with"]) <= set(inputs)
    assert all(said["description"] in page for said in inputs.values()), "each input is explained"


def test_the_release_for_a_real_cluster_is_the_official_archive(tmp_path: Path) -> None:
    """The step as it stands there, with a server of ours in place of Istio's."""
    step = next(step for _, step in steps() if step.get("name") == "the release")
    known = facts("1.30.3")
    files = {f"istio-1.30.3/{name}": b"kind: List\n" for name in known.layout.marks}
    files[f"istio-1.30.3/{known.layout.version_in}"] = b"image: docker.io/istio/pilot:1.30.3\n"
    with serve() as mirror:
        mirror.publish(archive_url(known, base_url="/"), archive(files))
        environment = {
            **os.environ,
            "GITHUB_ENV": str(tmp_path / "env"),
            "LABKIT_HOME": str(tmp_path / "home"),
            "LABKIT_ISTIO_DOWNLOADS": mirror.url,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RELEASE": "1.30.3",
            "no_proxy": "*",
        }
        done = subprocess.run(["bash", "-e", "-c", step["run"]], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "env").read_text() == f"LABKIT_ISTIO_DIR={tmp_path}/home/releases/istio-1.30.3\n"


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_actionlint_finds_nothing() -> None:
    """By the one that is installed, else by Go, which fetches it: PyPI's package would download it from GitHub."""
    program = ["actionlint"] if shutil.which("actionlint") else ["go", "run", ACTIONLINT]
    if shutil.which(program[0]) is None:
        pytest.skip("neither actionlint nor Go is here")
    done = subprocess.run([*program, *sorted(WORKFLOWS.glob("*.yml"))], capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
