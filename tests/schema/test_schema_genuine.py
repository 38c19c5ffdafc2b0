# SPDX-License-Identifier: Apache-2.0
"""Every object of both genuine releases is taken as it is; and quickly."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from meshbox.api.builtin import validate_update
from meshbox.api.custom_schema import CustomSchema
from meshbox.api.defaults import apply_defaults
from meshbox.settings import SandboxSettings
from tests.schema.whole import problems_of

pytestmark = pytest.mark.genuine
Genuine = Callable[[str], list[dict[str, Any]]]
_PLURALS = {"Ingress": "ingresses", "Endpoints": "endpoints", "NetworkPolicy": "networkpolicies"}


def resource_of(obj: dict[str, Any]) -> str:
    kind, group = obj["kind"], obj["apiVersion"].rpartition("/")[0].replace("extensions", "apps")
    if obj["apiVersion"].startswith("apiextensions"):
        group = "apiextensions.k8s.io"
    plural = _PLURALS.get(kind, f"{kind.lower()}s")
    return f"{plural}.{group}" if group else plural


@pytest.mark.parametrize(("release", "count"), [("1.2.2", 174), ("1.30.3", 113)])
def test_built_in_objects(
    release: str, count: int, genuine_objects: Genuine, modern: SandboxSettings, legacy: SandboxSettings
) -> None:
    settings = legacy if release == "1.2.2" else modern
    seen = 0
    for genuine in genuine_objects(release):
        if "istio.io" in genuine["apiVersion"] or "gateway.networking" in genuine["apiVersion"]:
            continue
        seen += 1
        obj = copy.deepcopy(genuine)
        where = obj["kind"], obj["metadata"]["name"]
        assert (where, problems_of(obj["apiVersion"], obj["kind"], obj)) == (where, problems_of("", "", {}))
        assert obj == genuine, "validation changes nothing"
        if obj["apiVersion"].endswith("beta1"):
            continue
        apply_defaults(resource_of(obj), obj, settings)
        assert not problems_of(obj["apiVersion"], obj["kind"], obj), where
        assert not validate_update(obj["apiVersion"], obj["kind"], obj, copy.deepcopy(obj)), where
    assert seen == count


def test_istio_objects(genuine_objects: Genuine, istio_schemas: dict[tuple[str, str], CustomSchema]) -> None:
    seen = 0
    for genuine in genuine_objects("1.30.3"):
        schema = istio_schemas.get((genuine["apiVersion"], genuine["kind"]))
        if schema is not None:
            seen += 1
            obj = copy.deepcopy(genuine)
            assert not schema.admit(obj), genuine["metadata"]["name"]
            assert obj == genuine
            assert not schema.admit(obj, genuine)
    assert seen == 18
