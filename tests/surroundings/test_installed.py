# SPDX-License-Identifier: Apache-2.0
"""What pip and conda install without the checkout: the course plays, Jupyter has its settings, Binder's scripts run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, processes_of, wait_until
from tests.surroundings.environment import Environment, memory
from tests.surroundings.play import ORDINARY, as_player, players

ODD = "Kurs für alle"
"""A folder's name as learners have them."""

LISTED = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: a build writes into the folder that it builds."""
    copy = tmp_path_factory.mktemp("source") / ODD / "the course"
    listed = subprocess.run(LISTED, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=240).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    target = source.parent / "dist"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, f"--wheel-dir={target}", str(source)], check=True, timeout=240)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Environment]:
    # pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="labkit-installed-", dir="/tmp"))
    folder.chmod(0o755)
    environment = Environment.make(folder / ODD / "env")
    environment.install(str(wheel))
    yield environment
    shutil.rmtree(folder)


def test_a_wheel_holds_the_folder_of_notebooks(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.removeprefix("labkit/course/notebooks/"): name for name in archive.namelist()}
        for file in (path for path in (REPOSITORY / "notebooks").rglob("*") if path.suffix in (".ipynb", ".svg")):
            name = file.relative_to(REPOSITORY / "notebooks").as_posix()
            if ".ipynb_checkpoints" not in name:
                assert archive.read(inside[name]) == file.read_bytes(), name
    assert not [name for name in inside if name.startswith(("notebooks/", "tests/", "tools/"))]


def test_it_takes_no_name_of_somebody_else(wheel: Path) -> None:
    assert wheel.name.startswith("mesh_workshop-")


@pytest.mark.timeout(300)
def test_a_wheel_alone_plays_a_lesson(installed: Environment) -> None:
    said = installed.run("labkit", "run", "00-kubernetes", "--out", "results", timeout=240)
    assert said.splitlines()[0].split()[:2] == ["✔", "00-kubernetes"]
    assert (installed.folder.parent / "elsewhere" / "results" / "report.html").is_file()


def test_a_wheel_brings_what_jupyter_reads(installed: Environment) -> None:
    said = installed.asked()
    package = Path(str(said["package"])).parent
    assert package.is_relative_to(installed.folder)
    assert said["notebooks"] == str(package / "course" / "notebooks")
    assert said["enabled"] == {"labkit.ui.jupyter_extension": True, "labkit.lab.server": True}
    assert said["extensions"] == ["labkit"]
    assert said["disabled"] == ["@jupyterlab/apputils-extension:announcements"]


def test_a_checkout_that_is_installed_as_a_link_brings_the_same(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = Environment.make(tmp_path_factory.mktemp("link") / "env")
    environment.install("--editable", str(source))
    said = environment.asked()
    assert said["package"] == str(source / "labkit" / "__init__.py")
    assert said["notebooks"] == str(source / "notebooks")
    assert said["enabled"] == {"labkit.ui.jupyter_extension": True, "labkit.lab.server": True}
    assert said["extensions"] == ["labkit"]
    assert said["disabled"] == ["@jupyterlab/apputils-extension:announcements"]


PLACES = {"environment.yml": "./", "binder/environment.yml": "../"}


@pytest.mark.parametrize("file", PLACES)
def test_an_environment_file_says_where_the_project_is(file: str, source: Path, tmp_path: Path) -> None:
    """conda writes what stands below pip into a file in the folder of the environment's file, and calls pip there."""
    kept = yaml.safe_load((source / file).read_text())
    (below,) = [one["pip"] for one in kept["dependencies"] if isinstance(one, dict)]
    requirements = (source / file).parent / "as-conda-does.txt"
    requirements.write_text("\n".join(below))
    environment = Environment.make(tmp_path / "env")
    said = environment.install("--dry-run", "-r", str(requirements), cwd=requirements.parent)
    assert "Would install mesh-workshop-" in said


def test_binder_has_the_environment_of_everybody_else() -> None:
    texts = {file: (REPOSITORY / file).read_text().replace(way, "") for file, way in PLACES.items()}
    ours, binders = (yaml.safe_load(text) for text in texts.values())
    assert ours == binders
    assert {"python=3.11", "pip", "curl", "prometheus"} <= {one for one in ours["dependencies"] if isinstance(one, str)}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("player", players())
def test_binders_scripts_make_a_sandbox_in_an_empty_home(player: str, installed: Environment) -> None:
    home = _home(installed, player)
    # Without a network Kiali's console cannot be had, which is told and stops nothing.
    offline = {"HOME": str(home), "npm_config_offline": "true"}
    script = REPOSITORY / "binder"
    said = installed.run(*as_player(player), "bash", str(script / "postBuild"), **offline)
    assert "labkit setup: prometheus: /" in said
    nodes = ("sh", "-c", 'kubectl get nodes -o name && echo "$KUBECONFIG"')
    try:
        said = installed.run(*as_player(player), "bash", str(script / "start"), *nodes, **offline)
        *_, node, kubeconfig = said.splitlines()
        assert node.startswith("node/")
        assert kubeconfig.startswith(f"{home}/.labkit/sandboxes/default/kubeconfig:")
        assert memory(home) < 250 * 2**20, "the sandbox alone"
    finally:
        installed.run(*as_player(player), "labkit", "down", "--delete", **offline)
    wait_until(lambda: not processes_of(home / ".labkit/sandboxes/default"), 10, "the end of every process")


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_the_course_on_binder_fits_into_two_gigabytes(release: str, installed: Environment) -> None:
    """Beside the sandbox that waits for the learner's cells; memory is what belongs to the processes (PSS)."""
    player = players()[-1]
    home = _home(installed, player)
    course = ("labkit", "run", "--release", release, "--out", str(home / "results"))
    most = 0

    def over() -> bool:
        nonlocal most
        most = max(most, memory(home))
        return run.poll() is not None

    command = (*as_player(player), "bash", str(REPOSITORY / "binder" / "start"), *course)
    with subprocess.Popen(command, cwd=home, env={**installed.variables, "HOME": str(home)}) as run:
        try:
            wait_until(over, 800, "the end of the course")
        finally:
            run.terminate()
            installed.run(*as_player(player), "labkit", "down", "--all", "--delete", HOME=str(home))
    print(f"the course of Istio {release} took {most / 2**20:.0f} MB at most")
    assert run.returncode == 0
    assert most < 2 * 2**30


@pytest.mark.timeout(400)
def test_make_works_in_a_folder_whose_name_has_blanks_and_umlauts(source: Path) -> None:
    environment = Environment.make(source / ".venv")
    environment.install("--editable", str(source))
    for made in (".made", ".made-dev"):
        # Installing all of it anew is pip's work, and minutes.
        (source / ".venv" / made).touch()
    said = environment.run("make", "setup", cwd=source, npm_config_offline="true")
    assert "labkit setup: prometheus: /" in said
    # These start a kubectl that the test writes, in this Python.
    tests = "TESTS=tests/cluster/test_cluster_kubectl.py tests/cluster/test_cluster_leash.py"
    said = environment.run("make", "test", tests, cwd=source, npm_config_offline="true", LABKIT_TEST_WORKERS="1")
    assert " passed" in said
    environment.run("make", "clean", cwd=source)
    assert not (source / ".venv").exists()


def _home(installed: Environment, player: str) -> Path:
    home = Path(tempfile.mkdtemp(prefix="home-", dir=installed.folder.parent))
    if player == "ordinary":
        shutil.chown(home, ORDINARY, ORDINARY)
    return home
