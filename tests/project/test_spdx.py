# SPDX-License-Identifier: Apache-2.0
"""The line with which a source file names its licence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import spdx

LINE = "SPDX-License-Identifier: Apache-2.0"


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("a.py", '"""x"""\n', f'# {LINE}\n"""x"""\n'),
        ("a.py", "#!/usr/bin/env python\nx = 1\n", f"#!/usr/bin/env python\n# {LINE}\nx = 1\n"),
        ("a.css", "p {}\n", f"/* {LINE} */\np {{}}\n"),
        ("a.js", "x();\n", f"// {LINE}\nx();\n"),
        ("a.lua", "local x\n", f"-- {LINE}\nlocal x\n"),
        ("a.html", "<!DOCTYPE html>\n<p>\n", f"<!DOCTYPE html>\n<!-- {LINE} -->\n<p>\n"),
        ("run", "#!/bin/sh\ntrue\n", f"#!/bin/sh\n# {LINE}\ntrue\n"),
    ],
)
def test_where_it_stands(tmp_path: Path, name: str, before: str, after: str) -> None:
    path = tmp_path / name
    path.write_text(before)
    assert spdx.lacks(path)
    assert spdx.headed(before, spdx.header(path)) == after
    path.write_text(after)
    assert not spdx.lacks(path)


@pytest.mark.parametrize(
    ("name", "text"), [("a.py", ""), ("a.ipynb", "{}\n"), ("a.md", "x\n"), ("LICENSE", "Apache\n")]
)
def test_what_needs_none(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert not spdx.lacks(tmp_path / name)


def test_it_is_added_once_to_what_git_knows_and_links_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    (tmp_path / ".gitignore").write_text("build/\n")
    for name in ("new.py", "build/made.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "link.py").symlink_to("build/made.py")
    for _ in range(2):
        assert spdx.main() == 0
        assert (tmp_path / "new.py").read_text() == f"# {LINE}\nx = 1\n"
        assert (tmp_path / "build/made.py").read_text() == "x = 1\n"
