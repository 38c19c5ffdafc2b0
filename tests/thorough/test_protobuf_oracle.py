# SPDX-License-Identifier: Apache-2.0
"""Protobuf as Kubernetes' own code writes it: objects with any of their fields, zeros and empty ones included."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from meshbox.api.builtin.types import kind_type
from meshbox.api.codec import decode
from tests.api.test_codec import KINDS, VALUES, Maker, needs_modules, without_nothing

SOURCE = Path(__file__).parent / "protobuf_oracle"
ZEROS: dict[str, Any] = {"string": "", "bool": False, "int32": 0, "int64": 0, "bytes": "", "float64": 0}
ELSEWHERE = ("apiextensions.k8s.io/v1", "apiregistration.k8s.io/v1")

pytestmark = [
    pytest.mark.thorough,
    needs_modules,
    pytest.mark.skipif(shutil.which("go") is None, reason="there is no Go to build the oracle with"),
]


def emptied(value: Any, chance: random.Random) -> Any:
    """`value` with some of its objects and lists empty."""
    if isinstance(value, dict):
        return {} if chance.random() < 0.08 else {name: emptied(one, chance) for name, one in value.items()}
    if isinstance(value, list):
        return [] if chance.random() < 0.1 else [emptied(one, chance) for one in value]
    return value


def test_go_and_we_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = {**os.environ, "GOFLAGS": "-mod=readonly", "GOPROXY": "off"}
    shutil.copytree(SOURCE, tmp_path / "oracle")
    built = subprocess.run(
        ["go", "build", "-o", "oracle", "."], cwd=tmp_path / "oracle", env=offline, capture_output=True, text=True
    )
    if built.returncode:
        pytest.skip(f"the oracle cannot be built offline: {built.stderr[-200:]}")
    for kind, zero in ZEROS.items():
        monkeypatch.setitem(VALUES, kind, (*VALUES[kind], zero))
    chance = random.Random(3)
    lines = []
    for seed in range(12):
        for version, kind in KINDS:
            if version not in ELSEWHERE:
                fields = Maker(seed).object(kind_type(version, kind))
                content = {name: emptied(value, chance) for name, value in fields.items()}
                lines.append(json.dumps({"apiVersion": version, "kind": kind, **content}) + "\n")
    told = subprocess.run(
        [tmp_path / "oracle/oracle"], input="".join(lines), capture_output=True, text=True, check=True
    )
    answers = told.stdout.splitlines()
    assert len(answers) == len(lines)
    for answer in answers:
        body, text = answer.split(" ", 1)
        warnings: list[str] = []
        assert without_nothing(decode(base64.b64decode(body), warnings)) == without_nothing(json.loads(text))
        assert warnings == []
