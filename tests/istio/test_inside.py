# SPDX-License-Identifier: Apache-2.0
"""What a look at an Envoy is compared with, what is waited for, and what cannot be asked."""

from __future__ import annotations

import importlib
import time
from datetime import UTC, datetime
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest

from labkit import istio
from labkit.ground.errors import SettingError
from labkit.istio.envoy.admin import Proxy, nearest, workload_of
from labkit.istio.envoy.dump import Dump

# In their packages functions of these names stand before the modules.
inside_module = importlib.import_module("labkit.istio.inside")
running = importlib.import_module("labkit.cluster.kubectl")


class Envoy:
    """Stands in for a proxy: what it is told, and when."""

    ahead = 0.0

    def __init__(self) -> None:
        self.uid, self.written, self.asked = "pod-1", 0.0, 0
        self.tables: dict[str, tuple[str, float]] = {"9080": ("v1", 1.0)}

    def __enter__(self) -> Envoy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def told(self, table: str, cluster: str) -> None:
        """The control plane says something new."""
        self.tables[table] = cluster, time.time()

    def write(self) -> None:
        """The learner writes something."""
        self.written = time.time()

    def read(self) -> Dump:
        self.asked += 1
        route: dict[str, Any] = {"match": {"prefix": "/"}}
        rows = [
            {
                "version_info": "1",
                "last_updated": datetime.fromtimestamp(when, UTC).isoformat(),
                "route_config": {
                    "name": name,
                    "virtual_hosts": [
                        {"name": "reviews", "domains": ["*"], "routes": [{**route, "route": {"cluster": cluster}}]}
                    ],
                },
            }
            for name, (cluster, when) in self.tables.items()
        ]
        part = {"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": rows}
        return Dump({"configs": [part]}, {}, {}, datetime.now(UTC))


@pytest.fixture
def envoy(monkeypatch: pytest.MonkeyPatch) -> Envoy:
    made = Envoy()
    monkeypatch.setattr(inside_module, "_looks", {})
    monkeypatch.setattr(inside_module, "find", lambda *_: Proxy("n", "pod", "reviews-v1", "reviews", "", "", made.uid))
    monkeypatch.setattr(inside_module, "Admin", lambda _: made)
    monkeypatch.setattr(inside_module, "configuration", lambda _: made.read())
    monkeypatch.setattr(inside_module, "completed", lambda dump, _: dump)
    monkeypatch.setattr(inside_module.cluster, "current", lambda: SimpleNamespace(uid="cluster"))
    monkeypatch.setattr(inside_module.cluster, "last_write", lambda: made.written)
    return made


def fields(look: istio.Inside) -> list[tuple[str, Any, Any]]:
    return [(one.field, one.before, one.after) for one in look.rows]


FIELD = "routes[any path].route.cluster"


def test_a_first_look_has_nothing_to_compare_with(envoy: Envoy) -> None:
    look = istio.inside("reviews")
    assert (look.rows, look.compared_with, envoy.asked) == ((), None, 1)
    assert "nothing is known from before" in look.note
    assert look.changes().empty
    assert list(look.table()["leads_to"]) == ["v1"]
    # After a restart of the kernel as well; but when Envoy took up what, it says itself.
    envoy.write()
    envoy.told("9080", "v2")
    inside_module._looks.clear()
    look = istio.inside("reviews")
    assert look.rows == ()
    assert "Envoy has taken up 9080." in look.note


def test_when_envoy_took_something_up_is_known_to_the_millisecond(envoy: Envoy) -> None:
    envoy.written = 1_700_000_000.1239
    envoy.tables["9080"] = "v2", 1_700_000_000.123
    assert "Envoy has taken up 9080." in istio.inside("reviews", timeout=0).note
    inside_module._looks.clear()
    envoy.written = 1_700_000_000.1241
    assert "Envoy has taken up nothing new." in istio.inside("reviews", timeout=0).note


def test_what_the_last_write_changed_is_told_until_the_next_write(envoy: Envoy) -> None:
    istio.inside("reviews")
    envoy.write()
    envoy.told("9080", "v2")
    for _ in range(2):
        look = istio.inside("reviews")
        assert fields(look) == [(FIELD, "v1", "v2")]
        assert ", before the last write at " in look.note
    assert look.changes().to_dict("records") == [
        {
            "resource": "reviews",
            "field": FIELD,
            "change": "changed",
            "before": "v1",
            "after": "v2",
            "tables": "9080",
            "meaning": "The group of endpoints that gets the request.",
        }
    ]
    envoy.write()
    envoy.told("9080", "v3")
    assert fields(istio.inside("reviews")) == [(FIELD, "v2", "v3")]
    assert fields(istio.inside("reviews", since=look)) == [(FIELD, "v2", "v3")]


def test_what_somebody_else_wrote_shows_as_well(envoy: Envoy) -> None:
    istio.inside("reviews")
    assert "nothing differs" in istio.inside("reviews").note
    envoy.told("9080", "v2")
    for _ in range(2):
        assert fields(istio.inside("reviews")) == [(FIELD, "v1", "v2")]


def test_a_write_that_comes_late_is_waited_for(envoy: Envoy, monkeypatch: pytest.MonkeyPatch) -> None:
    istio.inside("reviews")
    envoy.write()
    first, read = envoy.asked, envoy.read

    def late() -> Dump:
        if envoy.asked == first + 3:
            envoy.told("9080", "v2")
        return read()

    monkeypatch.setattr(inside_module, "_QUIET", 0.0)
    monkeypatch.setattr(envoy, "read", late)
    assert fields(istio.inside("reviews", timeout=60)) == [(FIELD, "v1", "v2")]
    # Once nothing more follows.
    assert envoy.asked == first + 5


def test_a_write_that_does_not_concern_it_is_said_to_have_changed_nothing(envoy: Envoy) -> None:
    istio.inside("reviews")
    envoy.write()
    look = istio.inside("reviews", timeout=0)
    assert look.rows == ()
    assert "nothing differs" in look.note
    assert "Envoy has taken up nothing since that write" in look.note


def test_another_pod_is_told(envoy: Envoy) -> None:
    istio.inside("reviews")
    envoy.write()
    envoy.uid = "pod-2"
    envoy.told("9080", "v2")
    look = istio.inside("reviews")
    assert fields(look) == [(FIELD, "v1", "v2")]
    assert "The pod is another one than then." in look.note


def test_what_cannot_be_asked() -> None:
    with pytest.raises(SettingError, match="no 'route'") as error:
        istio.inside("reviews", "route")
    assert error.value.next_step == "Did you mean routes? There are listeners, routes, clusters, endpoints, secrets."
    with pytest.raises(SettingError, match="timeout=61 is out of range"):
        istio.inside("reviews", timeout=61)
    for way in ("reviews", "a → b → c", "→ reviews"):
        with pytest.raises(SettingError, match="is no way from one to another"):
            istio.trace_route(way)
    with pytest.raises(SettingError, match="does not begin with /") as error:
        istio.trace_route("ratings → reviews", "reviews/0")
    assert error.value.next_step == 'Write "/reviews/0".'


def test_names() -> None:
    assert nearest("review", ["reviews", "details"]) == "Did you mean reviews? "
    assert nearest("xyz", ["reviews"]) == ""
    meta = {"name": "reviews-v1-6d-abc", "ownerReferences": [{"kind": "ReplicaSet", "name": "reviews-v1-6d"}]}
    assert workload_of({"metadata": meta}) == "reviews-v1"
    assert workload_of({"metadata": {"name": "alone"}}) == "alone"
    assert workload_of({"metadata": {"name": "s-0", "ownerReferences": [{"kind": "StatefulSet", "name": "s"}]}}) == "s"


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("kubectl get pods", False),
        ("kubectl exec deploy/ratings-v1 -- curl reviews", False),
        ("kubectl -n a apply -f x.yaml", True),
        ("cat <<EOF | kubectl apply -f -\nkind: x\nEOF", True),
        ("kubectl delete vs reviews", True),
        ("echo apply", False),
    ],
)
def test_which_lines_count_as_a_write(script: str, changes: bool) -> None:
    assert bool(running._SHELL_CHANGES.search(script)) is changes
