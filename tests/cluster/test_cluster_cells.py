# SPDX-License-Identifier: Apache-2.0
"""%%yaml and %%sh: what reaches kubectl, and what a learner reads where nothing does."""

from __future__ import annotations

import pytest

from labkit.cluster import cells, leave
from labkit.ground.errors import ClusterError, NoTargetError
from tests.cluster.fake_kubectl import FakeKubectl

OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: '{name} $HOME'}\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "apply -f -"),
        ("-n shop", "apply -n shop -f -"),
        ("--namespace=shop --server-side", "apply --server-side -n shop -f -"),
        ("delete", "delete --ignore-not-found=true -f -"),
        ("-n shop delete", "delete --ignore-not-found=true -n shop -f -"),
    ],
)
def test_a_cell_of_yaml_is_applied_as_it_is(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    # Whose they are is asked before anything is deleted.
    kubectl.answer("get")
    kubectl.answer(words.split()[0], stdout="configmap/a done\n", stderr="Warning: of the server\n")
    cells.yaml(line, OBJECT)
    assert capsys.readouterr().out.splitlines() == [f"$ kubectl {words}", "configmap/a done", "Warning: of the server"]


@pytest.mark.parametrize("cell", ["", "# a\n\n  # b\n", "---\n# nothing\n---\n"])
def test_only_comments_apply_nothing_and_say_so(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str], cell: str
) -> None:
    cells.yaml("-n shop", cell)
    assert "nothing was applied" in capsys.readouterr().out
    assert not [one for one in kubectl.commands if "apply" in one]


def test_a_shell_of_comments_runs_nothing_and_says_so(kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]) -> None:
    assert cells.sh("", "# kubectl logs ...\n\n") is None
    assert capsys.readouterr().out == "ℹ There are only comments in this cell: nothing was run.\n"


def test_a_mistake_is_one_line_with_the_number_that_the_editor_shows(kubectl: FakeKubectl) -> None:
    with pytest.raises(ClusterError) as caught:
        cells.yaml("", "kind: A\nspec:\n  a: b: c\n")
    assert (
        caught.value.message
        == "line 4 of this cell: `a: b: c` is not YAML: mapping values are not allowed in this context"
    )
    assert "Nothing was applied" in caught.value.next_step
    with pytest.raises(ClusterError, match=r"^line 3 of this cell: `b: 1` is not YAML: a tab indents it"):
        cells.yaml("", "a:\n\tb: 1\n")


@pytest.mark.parametrize("line", ["-n", "create", "--force", "delete --server-side", "-n 'a"])
def test_a_first_line_that_is_not_understood_is_told(kubectl: FakeKubectl, line: str) -> None:
    with pytest.raises(ClusterError) as caught:
        cells.yaml(line, OBJECT)
    assert "`%%yaml`, then as needed" in caught.value.next_step


def test_without_a_cluster_nothing_is_applied_or_run(as_before: None) -> None:
    leave()
    for call in (lambda: cells.yaml("", OBJECT), lambda: cells.sh("", "true")):
        with pytest.raises(NoTargetError, match="no cluster was chosen"):
            call()


def test_lines_of_a_shell_show_what_they_print_and_say_how_they_ended(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    cells.sh("", "name=1\necho {name} $name\necho oh >&2\n")
    assert capsys.readouterr().out.splitlines() == ["{name} 1", "oh"]
    with pytest.raises(ClusterError) as caught:
        cells.sh("", "echo before\n(exit 3)\necho after")
    assert (caught.value.message, caught.value.code) == ("exit code 3", 3)
    assert capsys.readouterr().out == "before\n"
    with pytest.raises(ClusterError, match="`%%sh -x` is not understood"):
        cells.sh("-x", "true")
