# SPDX-License-Identifier: Apache-2.0
"""Requests about resources: each verb on a collection, an object, or one of its subresources."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from labkit.ground import reading
from meshbox.api import bodies, refusals, reviews
from meshbox.api.apiservices import apiservices
from meshbox.api.objects import ObjectStore
from meshbox.api.options import DeleteOptions, WriteOptions
from meshbox.api.options_read import delete_options, dry_run, invalid_option, whole_option
from meshbox.api.paths import Target
from meshbox.api.representations import View
from meshbox.api.resources import Resource, Served
from meshbox.api.responses import form_of, json_response, success, warned
from meshbox.api.scale import scale_of
from meshbox.api.serve_watch import Watches
from meshbox.api.store import Entry
from meshbox.contracts import Obj
from meshbox.tokens import Tokens

__all__ = ["Rest"]

_PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    bodies.APPLY_PATCH: "apply",
}
_RETURNS_DELETED = frozenset({"pods", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims"})
"""Resources whose deletion answers with the object instead of a Status."""


class Rest:
    """The verbs.

    Args:
        objects: What they act on.
        watches: For watches.
        tokens: For TokenReview and TokenRequest.
    """

    def __init__(self, objects: ObjectStore, watches: Watches, tokens: Tokens) -> None:
        self._objects = objects
        self._watches = watches
        self._tokens = tokens

    async def serve(self, request: web.Request, target: Target, user: str) -> web.StreamResponse:
        """Answer a request for `target` by `user`.

        Raises:
            ApiError: the refusal to send.
        """
        served = self._objects.registry.served(target.group, target.version, target.plural)
        if served is None:
            raise refusals.no_such_resource()
        resource = served.resource
        if target.namespace is not None and not resource.namespaced:
            raise refusals.no_such_resource()
        if not resource.stored:
            return await self._review(request, served, user)
        if resource.computed:
            return self._computed(request, served, target)
        if target.subresource and target.subresource not in resource.subresources:
            raise refusals.no_such_resource()
        if not target.name:
            return await self._collection(request, served, target)
        if resource.namespaced and target.namespace is None:
            raise refusals.no_such_resource()
        return await self._object(request, served, target)

    # --- collections

    async def _collection(self, request: web.Request, served: Served, target: Target) -> web.StreamResponse:
        resource, query = served.resource, request.query
        if request.method == "GET":
            view = self._view(request, served)
            if query.get("watch") in ("true", "1"):
                return await self._watches.serve(request, resource, target.namespace, "", view)
            entries, meta = self._page(resource, target.namespace, query)
            return json_response(view.many(entries, meta))
        if request.method == "POST":
            if resource.namespaced and target.namespace is None:
                raise refusals.method_not_allowed()
            options = self._write_options(request, served)
            obj = await self._body(request, options)
            created = self._objects.create(resource.name, obj, target.namespace, options=options)
            return warned(json_response(self._view(request, served).one(created), 201), options.warnings)
        if request.method == "DELETE":
            options_ = await self._delete_options(request)
            entries, meta = self._page(resource, target.namespace, query)
            listed = self._view(request, served).many(entries, meta)
            for entry in entries:
                if self._objects.store.entry(resource.name, _key(entry)) is not None:
                    self._objects.remove(resource, entry, options_)
            return json_response(listed)
        raise refusals.method_not_allowed()

    def _computed(self, request: web.Request, served: Served, target: Target) -> web.Response:
        """Objects that are made when they are asked for."""
        query, resource = request.query, served.resource
        if request.method != "GET" or query.get("watch") in ("true", "1"):
            raise refusals.method_not_allowed()
        given = {"labels": query.get("labelSelector", ""), "fields": query.get("fieldSelector", "")}
        found = apiservices(self._objects, name=target.name, **given)
        if target.name and not found:
            raise refusals.not_found(resource, target.name)
        view = self._view(request, served)
        if target.name:
            return json_response(view.one(found[0].obj))
        return json_response(view.many(found, {"resourceVersion": str(self._objects.store.version)}))

    def _page(self, resource: Resource, namespace: str | None, query: Mapping[str, str]) -> tuple[list[Entry], Obj]:
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        entries = self._objects.select(resource, namespace, labels=labels, fields=fields)
        meta: Obj = {"resourceVersion": str(self._objects.store.version)}
        text = query.get("limit", "")
        limit = max(0, whole_option(text)) if text else 0
        if token := query.get("continue", ""):
            version, after = _continuation(token)
            entries = [entry for entry in entries if _key(entry) > after]
            meta["resourceVersion"] = version
        if limit and len(entries) > limit:
            rest = len(entries) - limit
            entries = entries[:limit]
            last = json.dumps({"v": meta["resourceVersion"], "after": _key(entries[-1])})
            meta["continue"] = base64.urlsafe_b64encode(last.encode()).decode()
            if not labels and not fields:
                meta["remainingItemCount"] = rest
        return entries, meta

    # --- objects

    async def _object(self, request: web.Request, served: Served, target: Target) -> web.StreamResponse:
        resource, method, sub = served.resource, request.method, target.subresource
        name, namespace = target.name, target.namespace
        view = self._view(request, served)
        if method == "GET" and sub in ("", "status"):
            if request.query.get("watch") in ("true", "1"):
                return await self._watches.serve(request, resource, namespace, name, view)
            entry = self._objects.entry(resource, name, namespace)
            return json_response(view.one(entry.obj))
        if sub == "scale" and method == "GET":
            return json_response(scale_of(resource, self._objects.entry(resource, name, namespace).obj))
        if method == "PUT" and sub in ("", "status", "scale", "finalize"):
            options = self._write_options(request, served)
            obj = await self._body(request, options)
            updated = self._put(served, target, obj, options)
        elif method == "PATCH" and sub in ("", "status", "scale"):
            options = self._write_options(request, served)
            updated = await self._patch(request, served, target, options)
        elif method == "DELETE" and not sub:
            return await self._delete(request, served, target)
        elif method == "POST" and sub in ("eviction", "binding", "token"):
            return await self._action(request, served, target)
        else:
            raise refusals.method_not_allowed()
        shown = scale_of(resource, updated) if sub == "scale" else view.one(updated)
        return warned(json_response(shown), options.warnings)

    def _put(self, served: Served, target: Target, obj: Obj, options: WriteOptions) -> Obj:
        resource = served.resource
        meta = obj.get("metadata")
        meta = obj["metadata"] = meta if isinstance(meta, dict) else {}
        if (given := meta.setdefault("name", target.name)) != target.name:
            raise refusals.bad_request(
                f"the name of the object ({given}) does not match the name on the URL ({target.name})"
            )
        if resource.namespaced and meta.setdefault("namespace", target.namespace) != target.namespace:
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if resource.crd is not None and not meta.get("resourceVersion") and target.subresource != "scale":
            self._objects.entry(resource, target.name, target.namespace)
            words = "Invalid value: 0: must be specified for an update"
            raise refusals.invalid(resource, target.name, [refusals.cause("metadata.resourceVersion", words)])
        return self._objects.update(resource.name, obj, subresource=target.subresource, options=options)

    async def _patch(self, request: web.Request, served: Served, target: Target, options: WriteOptions) -> Obj:
        kind = _PATCHES.get(request.content_type)
        if kind is None:
            raise refusals.unsupported_media_type(list(_PATCHES))
        patch = bodies.parse(await bodies.read(request), request.content_type)
        name, namespace = target.name, target.namespace
        if kind == "apply":
            force = request.query.get("force") in ("true", "1")
            if not request.query.get("fieldManager"):
                words = "Required value: is required for apply patch"
                raise invalid_option("fieldManager", words, "PatchOptions")
            return self._objects.apply(
                served.resource.name,
                name,
                patch,
                namespace,
                force=force,
                subresource=target.subresource,
                options=options,
            )
        return self._objects.patch(
            served.resource.name,
            name,
            patch,
            namespace,
            kind=kind,  # type: ignore[arg-type]
            subresource=target.subresource,
            options=options,
        )

    async def _delete(self, request: web.Request, served: Served, target: Target) -> web.Response:
        options = await self._delete_options(request)
        resource = served.resource
        entry = self._objects.entry(resource, target.name, target.namespace)
        obj, gone = self._objects.remove(resource, entry, options)
        if gone and resource.name not in _RETURNS_DELETED:
            details = {
                "name": target.name,
                "group": resource.group,
                "kind": resource.plural,
                "uid": obj["metadata"]["uid"],
            }
            return success({key: value for key, value in details.items() if value})
        return json_response(self._view(request, served).one(obj))

    async def _action(self, request: web.Request, served: Served, target: Target) -> web.Response:
        body = await self._body(request, WriteOptions())
        resource, name, namespace = served.resource, target.name, target.namespace
        if target.subresource == "token":
            account = self._objects.get(resource.name, name, namespace)
            return json_response(reviews.token_request(body, account, self._tokens), 201)
        if target.subresource == "eviction":
            options = delete_options(body.get("deleteOptions") or {}, request.query)
            self._objects.remove(resource, self._objects.entry(resource, name, namespace), options)
        else:
            node = (body.get("target") or {}).get("name", "")
            pod = self._objects.get(resource.name, name, namespace)
            if pod["spec"].get("nodeName"):
                why = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
                raise refusals.conflict(resource, name, why)
            self._objects.patch(resource.name, name, {"spec": {"nodeName": node}}, namespace)
        return json_response(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, 201
        )

    async def _review(self, request: web.Request, served: Served, user: str) -> web.Response:
        if request.method != "POST":
            raise refusals.method_not_allowed()
        body = await self._body(request, WriteOptions())
        body.setdefault("apiVersion", served.api_version)
        return json_response(reviews.answer(served.resource.kind, body, user, self._tokens), 201)

    # --- what a request says

    def _view(self, request: web.Request, served: Served) -> View:
        form = form_of(request.headers.get("Accept", ""))
        include = request.query.get("includeObject", "")
        return View(served, form, include, legacy=self._objects.settings.legacy)

    def _write_options(self, request: web.Request, served: Served) -> WriteOptions:
        query = request.query
        validation = query.get("fieldValidation", "") or "Warn"
        if validation not in ("Ignore", "Warn", "Strict"):
            words = f'Unsupported value: "{validation}": supported values: "", "Ignore", "Strict", "Warn"'
            raise invalid_option("fieldValidation", words)
        manager = query.get("fieldManager", "") or request.headers.get("User-Agent", "").split("/")[0][:128]
        return WriteOptions(
            manager=manager,
            dry_run=dry_run(query.getall("dryRun", [])),
            validation=validation,  # type: ignore[arg-type]
            served=served,
        )

    async def _body(self, request: web.Request, options: WriteOptions) -> Obj:
        content_type = request.content_type if "Content-Type" in request.headers else "application/json"
        if content_type not in ("application/json", "application/yaml", bodies.PROTOBUF):
            raise refusals.unsupported_media_type(("application/json", "application/yaml", bodies.PROTOBUF))
        duplicates: list[str] | None = [] if options.validation in ("Warn", "Strict") else None
        body = await bodies.read(request)
        value = bodies.parse(body, content_type, duplicates, options.warnings)
        if not isinstance(value, dict):
            raise refusals.bad_request("the body of the request is not an object")
        options.duplicates = [f'duplicate field "{path}"' for path in duplicates or ()]
        return value

    async def _delete_options(self, request: web.Request) -> DeleteOptions:
        body: Any = {}
        if content := await bodies.read(request):
            body = bodies.parse(content, request.content_type)
        return delete_options(body, request.query)


def _key(entry: Entry) -> tuple[str, str]:
    meta = entry.obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def _continuation(token: str) -> tuple[str, tuple[str, str]]:
    try:
        content = reading.json_value(base64.urlsafe_b64decode(token))
        namespace, name = content["after"]
        return str(content["v"]), (str(namespace), str(name))
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise refusals.bad_request(f"continue key is not valid: {token[:80]}") from None
