# SPDX-License-Identifier: Apache-2.0
"""What a request's object is checked for: its type, its fields, its values; and the defaults it is given."""

from __future__ import annotations

import json
from dataclasses import replace

from meshbox.api import refusals
from meshbox.api.applied_types import built_in, custom, misfits
from meshbox.api.builtin import decode_builtin, prune_builtin, validate_builtin, validate_status, validate_update
from meshbox.api.builtin.profiles import own_profiles
from meshbox.api.builtin.typed import typed
from meshbox.api.builtin.types import kind_type
from meshbox.api.builtin.well_formed import as_dict
from meshbox.api.compiled import definition, expressions
from meshbox.api.conversion import from_hub, to_hub
from meshbox.api.custom_schema import schema_of
from meshbox.api.defaults import TokenSecret, apply_defaults
from meshbox.api.go_words import misfit
from meshbox.api.merge_keys import shape_of
from meshbox.api.metadata import tidy, unqualified
from meshbox.api.names import cannot_unmarshal
from meshbox.api.options import WriteOptions
from meshbox.api.problems import Cause, Problems
from meshbox.api.resources import Resource, Served
from meshbox.api.warnings import warnings_of
from meshbox.contracts import ApiError, Obj
from meshbox.settings import SandboxSettings

__all__ = ["Checks"]


_CALLED = (definition, expressions)
"""They say what some of the rules' calls mean."""
_SEALED = frozenset({"configmaps", "secrets", "priorityclasses.scheduling.k8s.io"})
"""What controllers do not change against the rules either; of the rest they are trusted."""
_KEPT_FIRST = frozenset({"configmaps", "secrets", "daemonsets.apps", "ingressclasses.networking.k8s.io"})
"""Kinds of which is said first what may not change, and then what is wrong anyway."""


class Checks:
    """Decoding and validation.

    Args:
        settings: Of the sandbox; defaults depend on the Kubernetes it plays.
        token_secret: How to find the Secret with a service account's token.
    """

    def __init__(self, settings: SandboxSettings, token_secret: TokenSecret) -> None:
        self._settings = settings
        self._token_secret = token_secret

    def incoming(
        self, resource: Resource, obj: Obj, old: Obj | None, options: WriteOptions, subresource: str = ""
    ) -> Obj:
        """`obj` as the hub keeps it; its kind, and (for clients) its fields checked.

        Raises:
            ApiError: 400 where it is no object of this kind.
        """
        served = options.served or Served(resource, resource.group, resource.version)
        _check_kind(served, obj)
        meta = obj.get("metadata")
        if meta is None:
            obj["metadata"] = {}
        elif not isinstance(meta, dict) and (resource.crd is not None or not options.validation):
            raise refusals.bad_request(cannot_unmarshal(meta, f"{resource.kind}.metadata", "v1.ObjectMeta"))
        if resource.crd is not None:
            self._custom(resource, served, obj, old, options, subresource)
        elif options.validation:
            self._report(resource, served, obj, decode_builtin(served.api_version, resource.kind, obj), options)
            prune_builtin(served.api_version, resource.kind, obj)
            # What controllers write was made of what is kept, and gets its form when it is kept.
            typed(obj, served.api_version, resource.kind, stored=False)
        if options.validation:
            tidy(obj["metadata"], options)
            if resource.crd is not None:
                options.warnings += unqualified(obj["metadata"], old["metadata"] if old else {})
        return to_hub(served, obj)

    def declared(self, resource: Resource, wanted: Obj, served: Served) -> None:
        """Check that all fields of what is applied are those of its kind, with its types.

        Raises:
            ApiError: 500 where one is not: who applies must own what he says.
        """
        shape, name = shape_of(resource, served.version), wanted["metadata"].get("name", "")
        if resource.crd is None:
            schema = built_in(kind_type(served.api_version, resource.kind))
        elif (known := schema_of(resource.crd, served.version)) is not None:
            schema = custom(known.written)
        else:
            return
        found = list(misfits(schema, shape, wanted))
        if not found:
            return
        said = [f"{path}: {problem}" for path, problem in found]
        what = (
            f"{wanted['metadata'].get('namespace') or ''}/{name}; {served.group}/{served.version}, Kind={resource.kind}"
        )
        listed = said[0] if len(said) == 1 else "errors:\n" + "\n".join(f"  {one}" for one in said)
        raise ApiError(500, "", f"failed to create typed patch object ({what}): {listed}")

    def _custom(
        self, resource: Resource, served: Served, obj: Obj, old: Obj | None, options: WriteOptions, subresource: str
    ) -> None:
        schema = schema_of(resource.crd, served.version)
        if schema is None:
            self._report(resource, served, obj, Problems(), options)
            return
        before = None if old is None else from_hub(served, old)
        if subresource == "status" and before is not None:
            # Only the status is taken from such a request, so only that may be wrong with it.
            obj = {**obj, **{k: v for k, v in before.items() if k not in ("status", "metadata")}}
        problems = schema.admit(
            obj,
            before,
            applied=options.applied is not None,
            without_status=not subresource and "status" in resource.subresources,
        )
        if subresource == "status":
            # Its validator begins at the status, and tells of fields from there on.
            for one in problems.errors:
                one["message"] = one["message"].replace(f"{one['field']} in body", f"{one['field'][7:]} in body")
        self._report(resource, served, obj, problems, options)

    @staticmethod
    def _report(resource: Resource, served: Served, obj: Obj, problems: Problems, options: WriteOptions) -> None:
        unknown = [*options.duplicates, *problems.unknown]
        if problems.decode or (unknown and options.validation == "Strict"):
            said = problems.decode or f"strict decoding error: {', '.join(unknown)}"
            if options.applied is not None and problems.decode:
                kind = f"{served.group}/{served.version}, Kind={resource.kind}"
                name = as_dict(obj["metadata"]).get("name") or ""
                begin = f"failed to convert new object (/{name}; {kind}) to proper version"
                words = f"{begin}: unable to convert unstructured object to {kind}: {misfit(said)}"
                raise ApiError(500, "", words)
            if options.patch:
                raise refusals.bad_patch(options.patch, misfit(said) if options.patch.startswith("map[") else said)
            what = f'{resource.kind} in version "{served.version}" cannot be handled as a {resource.kind}'
            raise refusals.bad_request(f"{what}: {said}")
        if options.validation == "Warn":
            options.warnings.extend(unknown)
        if problems.errors:
            meta = obj["metadata"]
            raise refusals.invalid(resource, meta.get("name") or "", [dict(one) for one in problems.errors])

    def defaults(self, resource: Resource, obj: Obj) -> None:
        """Fill in what a client may leave out, in place."""
        if resource.crd is None:
            apply_defaults(resource.name, obj, self._settings, self._token_secret)

    def completed(self, resource: Resource, obj: Obj) -> None:
        """What plugins have changed, given the form and the defaults of what clients send; in place."""
        if resource.crd is None:
            typed(obj, resource.api_version, resource.kind)
        self.defaults(resource, obj)

    @staticmethod
    def stored(resource: Resource, obj: Obj, before: Obj | None = None) -> None:
        """Give `obj` the form in which it is kept, in place; what it has of the one `before` it has that form."""
        if resource.crd is None:
            kept = [name for name in obj if name in before and obj[name] == before[name]] if before else ()
            typed(obj, resource.api_version, resource.kind, known=kept)

    @staticmethod
    def errors(
        resource: Resource, obj: Obj, before: Obj | None, options: WriteOptions, *, added: bool = False
    ) -> list[Obj]:
        """What is wrong with a built-in object beyond its form; of a controller's, if plugins `added` to it."""
        if resource.crd is not None:
            return []
        found: list[Cause] = []
        kept: list[Cause] = []
        if options.validation or added:
            version = options.served.api_version if options.served else resource.api_version
            found = validate_builtin(
                resource.api_version, resource.kind, obj, version, new=before is None, old=before
            ).errors
        if before is not None and (options.validation or resource.name in _SEALED):
            kept = validate_update(resource.api_version, resource.kind, before, obj).errors
        causes = (*kept, *found) if resource.name in _KEPT_FIRST else (*found, *kept)
        return [dict(one) for one in causes]

    @staticmethod
    def status_errors(resource: Resource, obj: Obj, options: WriteOptions) -> list[Obj]:
        """What is wrong with the status of a built-in object that a client writes."""
        if resource.crd is not None or not options.validation:
            return []
        return [dict(one) for one in validate_status(resource.api_version, resource.kind, obj).errors]

    def profiles(self, pod: Obj) -> list[str]:
        """Give a new pod the profiles that its annotations name, in place; what its client is told of them."""
        return [] if self._settings.legacy else own_profiles(pod)

    def warnings(self, resource: Resource, obj: Obj, before: Obj | None, options: WriteOptions) -> list[str]:
        """What a client is told of a valid object; Kubernetes 1.14 had no warnings."""
        if resource.crd is not None or not options.validation or self._settings.legacy:
            return []
        return warnings_of(resource.name, obj, before)


def _check_kind(served: Served, obj: Obj) -> None:
    resource = served.resource
    kind = obj.setdefault("kind", resource.kind)
    api_version = obj.setdefault("apiVersion", served.api_version)
    kind, api_version = (one if isinstance(one, str) else json.dumps(one)[:200] for one in (kind, api_version))
    if kind != resource.kind:
        if resource.crd is not None:
            words = f"Invalid value: {json.dumps(kind)}: must be {resource.kind}"
            name = as_dict(obj.get("metadata")).get("name") or ""
            raise refusals.invalid(replace(resource, kind=kind), name, [refusals.cause("kind", words)])
        raise refusals.bad_request(f'{kind} in version "{served.version}" cannot be handled as a {resource.kind}')
    if api_version != served.api_version:
        raise refusals.bad_request(
            f"the API version in the data ({api_version}) does not match the expected API version "
            f"({served.api_version})"
        )
