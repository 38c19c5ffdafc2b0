# SPDX-License-Identifier: Apache-2.0
"""Revisions of the control plane: several may be installed beside each other, each under names of its own."""

from __future__ import annotations

from meshbox.contracts import View

__all__ = ["DEFAULT", "REVISION", "called", "is_istiod", "revision_of"]

REVISION, DEFAULT = "istio.io/rev", "default"


def called(part: str, revision: str) -> str:
    """What a part of the installation is called that is named `part` in the default one."""
    return part if revision == DEFAULT else f"{part}-{revision}"


def is_istiod(pod: View) -> bool:
    """Whether a pod is one of the control plane's: those of a revision are labelled otherwise."""
    return ((pod.get("metadata") or {}).get("labels") or {}).get("istio") in ("pilot", "istiod")


def revision_of(obj: View) -> str:
    """The revision that an object belongs to; a pod says in an annotation who injected it."""
    said = (obj["metadata"].get(kind) or {} for kind in ("annotations", "labels"))
    return next((one[REVISION] for one in said if one.get(REVISION)), DEFAULT)
