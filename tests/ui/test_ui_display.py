# SPDX-License-Identifier: Apache-2.0
"""What is shown: text for a terminal, HTML for a notebook, the same in both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labkit import display, ui
from labkit.ground.errors import ClusterError, NotReadyError
from tests.cluster.fake_kubectl import FakeKubectl
from tests.conftest import PATIENCE, wait_until


def test_a_command_looks_like_a_terminal() -> None:
    shown = display.command("kubectl get pods", "NAME <b>\n")
    assert shown.text == "$ kubectl get pods\nNAME <b>"
    assert "NAME &lt;b&gt;" in shown.html
    assert "<b>" not in shown.html.replace("<b>✔</b>", "")
    assert display.command("a \\\n  b", "").text == "$ a \\\n>   b"


def test_yaml_output_is_highlighted() -> None:
    shown = display.command("kubectl get gateway -o yaml", "kind: Gateway\n")
    assert re.search(r'<span style="color:[^"]+">kind</span>', shown.html)
    assert "color:var" not in display.command("kubectl get gateway", "kind: Gateway\n").html.split("</pre>")[1]


def test_a_failed_command_is_marked() -> None:
    assert "--jp-error-color1" in display.command("kubectl get x", "error", failed=True).html


def test_messages_do_not_speak_by_colour_alone() -> None:
    kinds = {kind: display.message("said", kind, next_step="do").text for kind in ("good", "note", "warning", "bad")}
    assert kinds == {
        "good": "✔ said\n  → do",
        "note": "ℹ said\n  → do",
        "warning": "⚠ said\n  → do",
        "bad": "✘ said\n  → do",
    }


def test_tables_are_aligned_and_escaped() -> None:
    shown = display.table([{"A": "x<y", "B": 1}, {"A": "long cell"}], ["A", "B"], caption="Two rows")
    assert shown.text == "Two rows\nA          B\nx<y        1\nlong cell"
    assert "x&lt;y" in shown.html


def test_beside_long_names_no_sentence_is_squeezed_to_a_word_a_line() -> None:
    """A name does not wrap, so a browser would take all room from the sentences."""
    cells = ["outbound|9080||reviews.bookinfo.svc", "mutual TLS where the endpoint has it, plain", "1 of 2"]
    made = display.table([dict(zip("ABC", cells, strict=True))], list("ABC")).html
    styles = [style.partition("white-space:")[2] for style in re.findall(r'<td style="([^"]*)">', made)]
    assert styles == ["pre", "pre-wrap;min-width:20ch", "pre"]


def test_live_text_prints_only_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    live = display.show(display.command("kubectl get pods"))
    live.update(display.command("kubectl get pods", "NAME\n"))
    live.update(display.command("kubectl get pods", "NAME\n"))
    assert capsys.readouterr().out == "$ kubectl get pods\nNAME\n"


def test_code_is_shown_as_code_and_stays_as_it_is_in_a_terminal() -> None:
    said = display.message("`a<b` is not", "bad", next_step="Say `a` or 'b")
    assert "<code>a&lt;b</code> is not" in said.html
    assert "<div>→ Say <code>a</code> or 'b</div>" in said.html
    assert said.text == "✘ `a<b` is not\n  → Say `a` or 'b"
    table = display.table([{"Seen": "`x` of 3"}], ["Seen"], caption="`f()` has them all")
    assert "<code>x</code> of 3</td>" in table.html
    assert "<b><code>f()</code> has them all</b>" in table.html
    assert "`" not in said.html + table.html


def test_what_prints_nothing_leaves_no_frame() -> None:
    assert display.command("", "\n") == display.Rich("", "")
    assert display.command("true").text == "$ true"


def test_what_may_have_to_be_scrolled_is_a_group_and_no_landmark() -> None:
    """Landmarks lead through a page; a lesson shows hundreds of outputs, many with the same words."""
    wide = display.command("", "x" * 60)
    assert '<pre tabindex="0" role="group" aria-label="Output of this cell"' in wide.html
    assert "tabindex" not in display.command("", "x" * 40).html


def test_nothing_shown_needs_the_internet() -> None:
    parts = [display.code("kind: A"), display.command("x", "y"), display.message("m"), display.table([{"a": 1}], ["a"])]
    for part in parts:
        assert not re.search(r"https?:|src=|@import|<script|<link", part.html)


def test_show_yaml_of_one_object(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(
        "kind: Service\nmetadata:\n  name: reviews\n---\nkind: Service\nmetadata:\n  labels:\n    app: ratings\n"
        "  name: ratings\n---\nkind: Deployment\nmetadata: {name: ratings}\n"
    )
    ui.show_yaml("a.yaml", only="Service/ratings")
    shown = capsys.readouterr().out
    assert shown.startswith("# a.yaml, Service/ratings\nkind: Service\nmetadata:\n  labels:")
    assert "reviews" not in shown
    ui.show_yaml("a.yaml", only="Deployment/ratings")
    assert "Deployment" in capsys.readouterr().out
    ui.show_yaml("a.yaml")
    assert capsys.readouterr().out.count("---") == 2
    with pytest.raises(ClusterError, match=r"a\.yaml has no Gateway") as caught:
        ui.show_yaml("a.yaml", only="Gateway")
    assert "Deployment, Service" in caught.value.next_step
    with pytest.raises(ClusterError, match="there is no file"):
        ui.show_yaml("nope.yaml")


def deployment(ready: int, message: str = "") -> dict[str, object]:
    conditions = [{"type": "ReplicaFailure", "status": "True", "message": message}] if message else []
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": ready}
    return {"kind": "Deployment", "metadata": {"name": "web", "uid": "d", "generation": 1}, "spec": {"replicas": 1},
            "status": {**status, "conditions": conditions}}  # fmt: skip


def test_ready_in_a_terminal_leaves_the_table(kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]) -> None:
    kubectl.api.items = [deployment(1)]
    assert ui.ready("bookinfo").ready
    shown = capsys.readouterr().out
    assert "-n bookinfo -o json   # then a watch of each" in shown
    assert "bookinfo: 1 of 1 workloads ready" in shown
    assert "✔  deployment/web  1/1" in shown


def test_what_cannot_become_ready_is_told_with_the_table(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.api.items = [deployment(0, 'pods "web" is forbidden: exceeded quota: small')]
    with pytest.raises(NotReadyError, match="exceeded quota"):
        ui.ready("bookinfo")
    shown = capsys.readouterr().out
    assert "not ready after" in shown
    assert re.search(r"✘  deployment/web .* Quota .* exceeded quota: small", shown)


def test_watching_shows_what_comes_until_it_is_stopped(
    kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.api.items = [deployment(0)]
    panel = ui.watch("bookinfo")
    shown = [capsys.readouterr().out]
    assert re.search(r"0 of 1 ready · \d+ s\nbookinfo: 0 of 1 workloads ready", shown[0])
    kubectl.api.items = [deployment(1)]

    def see(text: str) -> bool:
        shown.append(capsys.readouterr().out)
        return text in "".join(shown)

    wait_until(lambda: see("1 of 1 ready"), 30, "the next look")
    panel.stop()
    assert see("stopped: this is what was seen last")
    assert "widget" not in "".join(shown)


def test_watching_ends_by_itself(kubectl: FakeKubectl, capsys: pytest.CaptureFixture[str]) -> None:
    kubectl.api.items = [deployment(0)]
    panel = ui.watch("bookinfo", seconds=0.1)
    panel._thread.join(PATIENCE)
    assert "looked for 0.1 s: this is what was seen last" in capsys.readouterr().out
