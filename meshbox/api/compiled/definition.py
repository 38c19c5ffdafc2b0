# SPDX-License-Identifier: Apache-2.0
"""Validation of CustomResourceDefinitions, all but their schemas.

The server tells of what all versions have in common as if it stood in the spec itself, where v1beta1 had it: paths such
as `spec.subresources` and `spec.version`.
"""

from __future__ import annotations

import re

from labkit.ground.names import dns1035_label
from meshbox.api.builtin.rules import Context, call, check
from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.compiled.schemas import schema_problems
from meshbox.api.problems import Cause, invalid, required
from meshbox.api.refusals import quoted
from meshbox.contracts import Obj

__all__ = ["approval", "keeps_unknown"]


@call("definition_name")
def _definition_name(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    spec, name = as_dict(obj.get("spec")), as_dict(obj.get("metadata")).get("name")
    names, group = as_dict(spec.get("names")), spec.get("group") or ""
    if context.new and name and name != f"{names.get('plural') or ''}.{group}":
        causes.append(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))


@call("approval")
def _approved(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    if not context.new or "beta" in context.version:
        return
    if as_dict(obj.get("spec")).get("preserveUnknownFields") is True:
        causes.append(keeps_unknown())
    status, _, words = approval(obj)
    if status == "False" and not words.startswith("not approved"):
        given = (as_dict(obj.get("metadata")).get("annotations") or {}).get(_APPROVED)
        path = f"metadata.annotations[{_APPROVED}]"
        causes.append(invalid(path, given, words) if given else required(path, words))


def keeps_unknown() -> Cause:
    """What is said of a CRD that keeps all fields, as those of v1beta1 could."""
    instead = "set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return invalid("spec.preserveUnknownFields", True, f"cannot set to true, {instead}")


_APPROVED = "api-approved.kubernetes.io"
_PROTECTED = ("k8s.io", "kubernetes.io")


def approval(crd: Obj) -> tuple[str, str, str]:
    """Whether a group that belongs to Kubernetes' community is approved: status, reason and message of a condition.

    Three empty texts for a group that does not.
    """
    group = str(as_dict(crd.get("spec")).get("group") or "")
    if not any(group == one or group.endswith(f".{one}") for one in _PROTECTED):
        return "", "", ""
    given = str((as_dict(crd.get("metadata")).get("annotations") or {}).get(_APPROVED) or "")
    if given.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f"not approved: {quoted(given)}"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]", given):
        return "True", "ApprovedAnnotation", f"approved in {given}"
    either = ' with either a URL or a reason starting with "unapproved"' if given else ""
    more = "see https://github.com/kubernetes/enhancements/pull/1111"
    words = f"protected groups must have approval annotation {quoted(_APPROVED)}{either}, {more}"
    return "False", "InvalidAnnotation" if given else "MissingAnnotation", words


@call("versions")
def _versions(spec: Obj | None, path: str, causes: list[Cause], context: Context) -> None:
    spec, where = as_dict(spec), f"{path}.versions"
    listed = [as_dict(one) for one in as_list(spec.get("versions"))]
    for index, one in enumerate(listed):
        # In v1beta1, schemas need not be structural, nor be there.
        if as_dict(one.get("schema")).get("openAPIV3Schema") is None and "beta" not in context.version:
            causes.append(required(f"{where}[{index}].schema.openAPIV3Schema"))
    for index, one in enumerate(listed):
        check("V1CustomResourceDefinitionVersion", one, f"{where}[{index}]", causes, context)
    shown = [_shown_version(one) for one in listed] if spec.get("versions") is not None else None
    if len({one.get("name") for one in listed}) < len(listed):
        causes.append(invalid(where, shown, "must contain unique version names"))
    if sum(1 for one in listed if one.get("storage")) != 1:
        causes.append(invalid(where, shown, "must have exactly one version marked as storage version"))
    if listed and listed[0].get("name"):
        causes += [invalid("spec.version", listed[0]["name"], words) for words in dns1035_label(listed[0]["name"])]


def _shown_version(one: Obj) -> Obj:
    """A version as the server prints it: an internal type without JSON names, what all have in common left out."""
    told = {"Name": one.get("name") or ""}
    told |= {name: one.get(name.lower()) or False for name in ("Served", "Storage", "Deprecated")}
    told |= {"DeprecationWarning": one.get("deprecationWarning"), "Schema": None, "Subresources": None}
    return {**told, "AdditionalPrinterColumns": None, "SelectableFields": None}


@call("other_kind")
def _other_kind(names: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    if names["kind"] == names.get("listKind"):
        causes.append(invalid(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same"))


@call("version_parts")
def _parts(spec: Obj | None, path: str, causes: list[Cause], context: Context) -> None:
    """Schemas, subresources and columns: each version's, or once what all have."""
    listed = [as_dict(one) for one in as_list(as_dict(spec).get("versions"))]
    for field, common in (
        ("schema", f"{path}.validation"),
        ("subresources", f"{path}.subresources"),
        ("additionalPrinterColumns", f"{path}.additionalPrinterColumns"),
    ):
        alike = all(one.get(field) == listed[0].get(field) for one in listed)
        for index, one in enumerate(listed[:1] if alike else listed):
            where, value = common if alike else f"{path}.versions[{index}].{field}", one.get(field)
            if field == "schema" and "beta" not in context.version:
                if isinstance(schema := as_dict(value).get("openAPIV3Schema"), dict):
                    there = as_dict(one.get("subresources")).get("status") is not None
                    schema_problems(schema, f"{where}.openAPIV3Schema", causes, with_status=there)
            elif field == "subresources" and (scale := as_dict(value).get("scale")) is not None:
                check("V1CustomResourceSubresourceScale", scale, f"{where}.scale", causes, context)
            elif field == "additionalPrinterColumns":
                for at, column in enumerate(as_list(value)):
                    check("V1CustomResourceColumnDefinition", column, f"{where}[{at}]", causes, context)
    if not any(one.get("storage") for one in listed):
        causes.append(invalid("status.storedVersions", None, "must have at least one stored version"))
