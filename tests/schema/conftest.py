# SPDX-License-Identifier: Apache-2.0
"""Objects of the genuine releases, and the settings of a sandbox of each time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbox.addresses import AddressPlan
from meshbox.api.custom_schema import CustomSchema
from meshbox.settings import SandboxSettings
from tests.conftest import TOKEN

_GENUINE = Path(__file__).resolve().parents[3] / "shared" / "releases"


@functools.cache
def _objects(release: str) -> list[dict[str, Any]]:
    found = []
    for path in sorted((_GENUINE / f"istio-{release}").rglob("*.yaml")):
        for document in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader):
            if document:
                found += document["items"] if document["kind"] == "List" else [document]
    return found


def _release(release: str) -> list[dict[str, Any]]:
    if not (_GENUINE / f"istio-{release}").is_dir():
        pytest.skip(f"the genuine manifests of Istio {release} are not in {_GENUINE}")
    return _objects(release)


@pytest.fixture
def genuine_objects() -> Callable[[str], list[dict[str, Any]]]:
    """Every object in the genuine manifests of a release; shared, so copy before you change."""
    return _release


@functools.cache
def _schemas() -> dict[tuple[str, str], CustomSchema]:
    schemas = {}
    for crd in _objects("1.30.3"):
        if crd["kind"] == "CustomResourceDefinition":
            spec = crd["spec"]
            for version in spec["versions"]:
                key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                schemas[key] = CustomSchema(version["schema"]["openAPIV3Schema"], preserve_unknown=False)
    return schemas


@pytest.fixture
def istio_schemas() -> dict[tuple[str, str], CustomSchema]:
    """The schemas of Istio 1.30.3 by apiVersion and kind."""
    _release("1.30.3")
    return _schemas()


@pytest.fixture
def modern(tmp_path: Path) -> SandboxSettings:
    return _settings(tmp_path, "1.30.3")


@pytest.fixture
def legacy(tmp_path: Path) -> SandboxSettings:
    return _settings(tmp_path, "1.2.2")


def _settings(home: Path, release: str) -> SandboxSettings:
    return SandboxSettings("test", home, release, AddressPlan(231), token=TOKEN)


@pytest.fixture
def deployment() -> dict[str, Any]:
    """A small Deployment that is right."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "nginx:1.27"}]},
            },
        },
    }
