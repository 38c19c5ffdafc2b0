"""What pip installs, without the checkout: the course plays, and Jupyter has what is for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import BIN, REPOSITORY

LISTED = ("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")

ASKED = """
import json, labkit
from jupyter_core.paths import jupyter_config_path
from jupyter_server.config_manager import BaseJSONConfigManager
from jupyterlab_server.config import get_page_config
from labkit.course.folder import notebooks

enabled = {}
for folder in jupyter_config_path():
    said = BaseJSONConfigManager(config_dir=folder).get("jupyter_server_config")
    enabled |= said.get("ServerApp", {}).get("jpserver_extensions", {})
print(json.dumps({
    "package": labkit.__file__,
    "notebooks": str(notebooks()),
    "enabled": enabled,
    "disabled": get_page_config([])["disabledExtensions"],
}))
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has our libraries, but nothing of this checkout."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        home = self.folder.parent / "home"
        programs = f"{self.folder / 'bin'}:{BIN}:{os.environ['PATH']}"
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("LABKIT", "JUPYTER", "PYTHON"))
        }
        # The libraries' own data, such as nbconvert's templates, are where the libraries are.
        return {
            **kept,
            "HOME": str(home),
            "PATH": programs,
            "JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"),
        }

    def run(self, *command: str, timeout: float = 120) -> str:
        cwd = self.folder.parent / "elsewhere"
        cwd.mkdir(exist_ok=True)
        done = subprocess.run(command, cwd=cwd, env=self.variables, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, *what: str) -> None:
        quiet = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed")
        self.run(sys.executable, "-m", "pip", f"--python={self.folder / 'bin' / 'python'}", "install", *quiet, *what)

    def asked(self) -> dict[str, object]:
        said: dict[str, object] = json.loads(self.run(str(self.folder / "bin" / "python"), "-c", ASKED))
        return said


def _environment(folder: Path) -> Environment:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Links of these packages are not followed: this checkout, installed as a link, stays away.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Environment(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: a build writes into the folder that it builds."""
    copy = tmp_path_factory.mktemp("source") / "src"
    listed = subprocess.run(LISTED, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60).stdout
    for name in filter(None, listed.split("\0")):
        if (REPOSITORY / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    target = source.parent / "dist"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, f"--wheel-dir={target}", str(source)], check=True, timeout=120)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = _environment(tmp_path_factory.mktemp("wheel") / "env")
    environment.install(str(wheel))
    return environment


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
    assert said["enabled"] == {"labkit.ui.jupyter_extension": True}
    assert said["disabled"] == ["@jupyterlab/apputils-extension:announcements"]


def test_a_checkout_that_is_installed_as_a_link_brings_the_same(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = _environment(tmp_path_factory.mktemp("link") / "env")
    environment.install("--editable", str(source))
    said = environment.asked()
    assert said["package"] == str(source / "labkit" / "__init__.py")
    assert said["notebooks"] == str(source / "notebooks")
    assert said["enabled"] == {"labkit.ui.jupyter_extension": True}
    assert said["disabled"] == ["@jupyterlab/apputils-extension:announcements"]
