# SPDX-License-Identifier: Apache-2.0
"""Going on with Shift+Enter where a lesson could not begin: the reader's own cluster, "precious", never hears of it."""

from __future__ import annotations

import ast
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from labkit import cluster
from labkit.course import LESSONS
from tests.cluster.api_like import ApiLike, api_like, kubeconfig
from tests.conftest import BIN, REPOSITORY

pytestmark = pytest.mark.apart

# What a reader may add that is outside of labkit.
_SHELL = ("!kubectl delete namespaces --all", "%%bash\nkubectl delete pods --all")
# What a reader may type into the cells that labkit reads.
_TYPED = (
    "%%sh\nkubectl get pods",
    "%%yaml delete\n{apiVersion: v1, kind: Namespace, metadata: {name: bookinfo}}",
    "%%promql\nup",
)

SITUATIONS = {
    "sandbox": "the sandbox could not start: `labkit up --release 1.30.3` failed: cannot write to",
    "no-such-context": "TARGET = 'no-such-context' is no context of",
}


@pytest.fixture
def precious(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiLike]:
    """A cluster that kubectl finds in every way there is; nobody can start a sandbox here."""
    # Each connection counts, so it has an address of its own: at 127.0.0.1 others may knock at a port that was theirs.
    with api_like(tmp_path, "precious", "127.0.77.1") as api:
        home = tmp_path / "home"
        own = kubeconfig(home / ".kube" / "config", {"precious": api.entry})
        host, port = api.url.removeprefix("https://").split(":")
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("KUBECONFIG", str(own))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
        monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
        monkeypatch.delenv("LABKIT_KUBECONFIG", raising=False)
        # Not even root can make a folder below a file.
        (tmp_path / "file").touch()
        monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file" / "labkit"))
        yield api


def test_kubectl_itself_finds_it(precious: ApiLike) -> None:
    """Else the tests below would prove nothing."""
    done = subprocess.run([cluster.kubectl_program(), "get", "namespaces"], capture_output=True, text=True, timeout=300)
    assert "kube-system" in done.stdout
    assert precious.connections > 0


@pytest.mark.parametrize("name", LESSONS)
def test_it_sees_nobody(name: str, precious: ApiLike) -> None:
    notebook: Any = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    written = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells: list[tuple[str, Any]] = []
    for target in SITUATIONS:
        # In one kernel, since its start takes longest; the second begin fails as the first has.
        sources = [f'RELEASE = "1.30.3"\nTARGET = "{target}"', *(c.source for c in written[1:]), *_SHELL, *_TYPED]
        cells += [(target, nbformat.v4.new_code_cell(source)) for source in sources]  # type: ignore[no-untyped-call]
    assert written[0].metadata["tags"] == ["parameters"]
    assert "course.begin" in written[1].source
    notebook.cells = [cell for _, cell in cells]
    NotebookClient(notebook, timeout=240, kernel_name="python3", allow_errors=True).execute()
    assert precious.connections == 0, precious.requests

    assigned: set[str] = set()
    for target, cell in cells:
        said = "".join(one.get("text", "") for one in cell.outputs if one.output_type == "stream")
        errors = [(one.ename, one.evalue) for one in cell.outputs if one.output_type == "error"]
        if "course.begin" in cell.source:
            assert [ename for ename, _ in errors] == ["SettingError"], cell.source
            assert SITUATIONS[target] in errors[0][1]
        elif cell.source in _SHELL:
            assert SITUATIONS[target] in said, cell.source
        else:
            for ename, evalue in errors:
                missing = evalue.partition("'")[2].partition("'")[0]
                known = ename == "NameError" and missing in assigned
                assert known or (ename == "NoTargetError" and SITUATIONS[target] in evalue), (cell.source, evalue)
            assert errors or not talks_to_a_cluster(cell.source), cell.source
        if cell.source not in _SHELL:
            assigned |= names_given(cell.source)


def _python(source: str) -> str:
    """A cell as Python reads it, magics and all."""
    return str(TransformerManager().transform_cell(source))


def names_given(source: str) -> set[str]:
    """The names that a cell gives a value, or a function."""
    nodes = list(ast.walk(ast.parse(_python(source))))
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def talks_to_a_cluster(source: str) -> bool:
    """Whether a cell calls a helper outside of a function it only defines."""
    if source.startswith(("%%sh", "%%yaml", "%%promql")):
        # A cell of comments asks for nothing.
        return any(line.strip() and not line.startswith("#") for line in source.splitlines()[1:])
    statements = [one for one in ast.parse(_python(source)).body if not isinstance(one, ast.FunctionDef)]
    called = {node.func.id for one in statements for node in ast.walk(one)
              if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}  # fmt: skip
    return bool(called & {"kubectl", "apply", "delete", "shell", "table", "get", "exists", "snapshot", "images"})
