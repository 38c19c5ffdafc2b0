# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions: v1beta1 has one schema for all versions, v1 one for each."""

from __future__ import annotations

from meshbox.contracts import Obj

__all__ = ["from_v1", "to_v1"]


def _columns(columns: object, old: str, new: str) -> object:
    if not isinstance(columns, list):
        return columns
    return [
        {new if key == old else key: value for key, value in column.items()} if isinstance(column, dict) else column
        for column in columns
    ]


def to_v1(obj: Obj, version: str) -> None:
    """From v1beta1, in place."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    spec.setdefault("scope", "Namespaced")
    name = spec.pop("version", None)
    versions = spec.get("versions")
    if not versions and name:
        versions = [{"name": name, "served": True, "storage": True}]
    schema = spec.pop("validation", None)
    subresources = spec.pop("subresources", None)
    columns = spec.pop("additionalPrinterColumns", None)
    for one in versions if isinstance(versions, list) else []:
        if not isinstance(one, dict):
            continue
        for field, common in (
            ("schema", schema),
            ("subresources", subresources),
            ("additionalPrinterColumns", columns),
        ):
            if common is not None:
                one.setdefault(field, common)
        if "additionalPrinterColumns" in one:
            one["additionalPrinterColumns"] = _columns(one["additionalPrinterColumns"], "JSONPath", "jsonPath")
    if versions is not None:
        spec["versions"] = versions
    conversion = spec.get("conversion")
    if isinstance(conversion, dict) and "webhookClientConfig" in conversion:
        client = conversion.pop("webhookClientConfig")
        reviewed = conversion.pop("conversionReviewVersions", ["v1beta1"])
        conversion["webhook"] = {"clientConfig": client, "conversionReviewVersions": reviewed}
    spec.setdefault("preserveUnknownFields", True)


def from_v1(obj: Obj, version: str) -> None:
    """To v1beta1, in place."""
    spec = obj["spec"]
    versions = spec["versions"]
    spec["version"] = versions[0]["name"]
    for one in versions:
        if "additionalPrinterColumns" in one:
            one["additionalPrinterColumns"] = _columns(one["additionalPrinterColumns"], "jsonPath", "JSONPath")
    for field, common in (
        ("schema", "validation"),
        ("subresources", "subresources"),
        ("additionalPrinterColumns", "additionalPrinterColumns"),
    ):
        first = versions[0].get(field)
        if first is not None and all(one.get(field) == first for one in versions):
            spec[common] = first
            for one in versions:
                one.pop(field, None)
    conversion = spec.get("conversion") or {}
    if webhook := conversion.pop("webhook", None):
        conversion["webhookClientConfig"] = webhook.get("clientConfig")
        conversion["conversionReviewVersions"] = webhook.get("conversionReviewVersions")
    if spec.get("preserveUnknownFields") is True:
        del spec["preserveUnknownFields"]
