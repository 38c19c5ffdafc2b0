"""What the lessons' text says of the releases is what the genuine manifests say."""

from __future__ import annotations

import re
from collections import defaultdict

import nbformat
import pytest
import yaml

from tests.conftest import REPOSITORY, genuine

FILES = {"1.2.2": "install/kubernetes/helm/istio-init/files/crd*.yaml", "1.30.3": "manifests/base.yaml"}
COLUMNS = {"1.2.2": 1, "1.30.3": 2}


def text(notebook: str, cell: str) -> str:
    cells = nbformat.read(REPOSITORY / "notebooks" / f"{notebook}.ipynb", 4).cells
    return next(str(one.source) for one in cells if one.id == cell)


def kinds(release: str) -> dict[str, dict[str, set[str]]]:
    """API group → the version that one would write today → kinds."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file in genuine(release).glob(FILES[release]):
        for one in yaml.safe_load_all(file.read_text()):
            if one and one["kind"] == "CustomResourceDefinition" and one["spec"]["group"].endswith("istio.io"):
                spec = one["spec"]
                versions = [v["name"] for v in spec.get("versions") or [] if v["served"]] or [spec["version"]]
                # v1 comes before v1beta1, and that before v1alpha3.
                best = min(versions, key=lambda v: (v != "v1", "beta" not in v, v))
                found[spec["group"]][best].add(spec["names"]["kind"])
    return {group: dict(by_version) for group, by_version in found.items()}


def told(release: str) -> tuple[dict[str, dict[str, set[str]]], int]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text("01-install-istio", "crds-then-and-now").splitlines()
        if line.startswith("|")
    ][2:]
    found: dict[str, dict[str, set[str]]] = {}
    count = 0
    for row in rows:
        said = row[COLUMNS[release]]
        if row[0] == "**together**":
            count = int(re.match(r"\d+", said)[0])  # type: ignore[index]
        elif said:
            parts = (part.partition(":") for part in said.replace("Mixer's ", "").split(";"))
            found[row[0].strip("`")] = {
                version.strip(" `"): {name.strip() for name in names.split(",")} for version, _, names in parts
            }
    return found, count


@pytest.mark.genuine
@pytest.mark.parametrize("release", FILES)
def test_the_table_of_kinds(release: str) -> None:
    found, count = told(release)
    assert found == kinds(release)
    assert count == sum(len(names) for versions in found.values() for names in versions.values())
