# SPDX-License-Identifier: Apache-2.0
"""No kind of Istio's is left out of the walk over every field: each is walked there, here, or said not to be played."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from meshbox.mesh.inject.proxy_config import effective
from meshbox.mesh.istio_validation import check
from meshbox.mesh.unplayed import TABLES, unplayed

from .test_mesh_fields import EXAMPLES, changes, fields, places, schemas

Obj = dict[str, Any]

HERE = {"ProxyConfig", "EnvoyFilter"}
"""ProxyConfigs are told to pods as they are created (below); EnvoyFilters change what others have made
(test_mesh_envoy_filter_fields)."""
SAID = sorted(kind for kind, lines in TABLES[False].items() if "" in lines)
PROXY_CONFIGS: list[Obj] = [
    {
        "selector": {"matchLabels": {"app": "reviews"}},
        "concurrency": 2,
        "image": {"imageType": "debug"},
        "environmentVariables": {"A": "1"},
    }
]


def test_each_kind_is_walked_or_said_not_to_be_played() -> None:
    assert sorted(schemas()) == sorted({*EXAMPLES[False], *SAID, *HERE})


@pytest.mark.parametrize("kind", SAID)
def test_whatever_a_kind_that_is_not_played_says_it_is_named(kind: str) -> None:
    for spec in ({}, {"selector": {"matchLabels": {"app": "a"}}}):
        obj = {"kind": kind, "metadata": {"name": "one", "namespace": "bookinfo"}, "spec": spec}
        (words,) = unplayed(obj, legacy=False)
        assert words.startswith(f"the sandbox does not play {kind}")


class Given:
    """A cluster's objects: one ProxyConfig."""

    def __init__(self, spec: Obj) -> None:
        self._obj = {"metadata": {"name": "one", "namespace": "bookinfo"}, "spec": spec}

    def list(self, _resource: str, namespace: str) -> Iterator[Obj]:
        return iter([copy.deepcopy(self._obj)] if namespace == "bookinfo" else [])


def told(spec: Obj) -> Obj:
    objects: Any = Given(spec)
    pod = {"metadata": {"name": "reviews-1", "labels": {"app": "reviews"}}, "spec": {}}
    return effective(objects, {"defaultConfig": {"concurrency": 1}}, "bookinfo", pod, "istio-system")


def test_every_field_of_a_proxy_config_reaches_the_proxy() -> None:
    paths = list(fields(schemas()["ProxyConfig"]))
    assert paths
    for path in paths:
        found = [(spec, place) for spec in PROXY_CONFIGS for place in places(spec, path)]
        assert found, f"no example sets {path}"
        assert any(told(changed) != told(spec) for spec, place in found for changed in changes(spec, place)), path
    for spec in PROXY_CONFIGS:
        obj = {"kind": "ProxyConfig", "metadata": {"name": "one", "namespace": "bookinfo"}, "spec": spec}
        assert check(obj, legacy=False).errors == []
