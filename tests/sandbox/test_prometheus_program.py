# SPDX-License-Identifier: Apache-2.0
"""Where `labkit setup` gets Prometheus: the newest that can be had, and each way that failed is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labkit.ground.errors import MissingToolError
from meshbox import prometheus_program

CONDA = """#!/bin/sh
echo "$@" >> "$ASKED"
for word; do case $word in --prefix=*) place=${word#--prefix=} ;; esac; done
mkdir -p "$place/bin" && printf '#!/bin/sh\\necho "prometheus, version 2.34.0"\\n' > "$place/bin/prometheus"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only programs on the PATH besides the system's simplest; the archives' server refuses every connection."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "mkdir"):
        (folder / name).symlink_to(f"/bin/{name}")
    monkeypatch.setattr(prometheus_program, "ARCHIVES", "http://127.0.0.1:9")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    return folder


def test_the_last_way_is_conda_forge(programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (programs / "micromamba").write_text(CONDA)
    (programs / "micromamba").chmod(0o755)
    found = prometheus_program.fetch()
    assert found == tmp_path / "home" / "tools" / "prometheus"
    assert os.access(found, os.X_OK)
    asked = (tmp_path / "asked").read_text()
    assert asked.startswith("create --yes --quiet --prefix=")
    assert asked.endswith("--override-channels --channel=conda-forge prometheus\n")
    said = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in said if "cannot be had" not in line] == [
        f"Prometheus {prometheus_program.VERSION}",
        "Debian's package",
        "conda-forge's package",
    ]
    assert len(said) == 5, "two of them with their reasons"


def test_where_no_way_leads_to_it_each_is_told(programs: Path) -> None:
    with pytest.raises(MissingToolError) as told:
        prometheus_program.fetch()
    assert "http://127.0.0.1:9/v" in told.value.message
    assert "there is no apt-get on this machine" in told.value.message
    assert "there is no conda on this machine" in told.value.message
    assert told.value.next_step == "install Prometheus by hand and put it on PATH"
