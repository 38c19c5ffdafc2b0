# SPDX-License-Identifier: Apache-2.0
"""Requests about resources: each verb on a collection, an object, or one of its subresources."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from meshbox.api import bindings, bodies, evictions, refusals, reviews
from meshbox.api.apiservices import apiservices
from meshbox.api.builtin.well_formed import as_dict
from meshbox.api.component_statuses import component_statuses
from meshbox.api.lists import check_version, key_of, page
from meshbox.api.metrics_api import API_SERVICE, METRICS, Metrics
from meshbox.api.objects import ObjectStore
from meshbox.api.options import DeleteOptions, WriteOptions
from meshbox.api.options_read import delete_options, dry_run, write_options
from meshbox.api.paths import Target
from meshbox.api.representations import View
from meshbox.api.resources import Served, deprecated
from meshbox.api.responses import form_of, json_response, success, warned
from meshbox.api.scale import scale_of
from meshbox.api.serve_watch import Watches
from meshbox.api.strategies import EPHEMERAL
from meshbox.api.type_meta import check_type, no_object, place, unreadable
from meshbox.api.webhook_answers import Reviews
from meshbox.contracts import ApiError, Obj, ReviewNeededError
from meshbox.rbac import escalation
from meshbox.rbac.asked import attributes, forbidden
from meshbox.rbac.policy import Authorizer
from meshbox.rbac.users import User
from meshbox.tokens import Tokens
from meshbox.values import clone

__all__ = ["Rest"]

_PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    bodies.APPLY_PATCH: "apply",
}
_RETURNS_DELETED = frozenset({"pods", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims"})
"""Resources whose deletion answers with the object instead of a Status."""

_DEPRECATED = {
    ("", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
    ("", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}
"""What whoever asks for a resource is told (but for watches, whose answer is begun before)."""

_T = TypeVar("_T")
_MOST_TRIES = 100
"""Of one write whose webhooks are asked: each time somebody may have changed its object, and they are asked anew."""


async def _reviewed(write: Callable[[], _T], options: WriteOptions) -> _T:
    """Do a write as soon as all webhooks that it meets have answered.

    Raises:
        ApiError: It is refused.
    """
    warnings = list(options.warnings)
    for _ in range(_MOST_TRIES):
        options.warnings[:] = warnings
        try:
            return write()
        except ReviewNeededError as pending:
            await pending.fetch()
        except ApiError as error:
            error.warnings = [*options.warnings]
            raise
    raise ApiError(504, "Timeout", "Timeout: the object changes faster than its webhooks answer")


class Rest:
    """The verbs.

    Args:
        objects: What they act on.
        watches: For watches.
        tokens: For TokenReview and TokenRequest.
        authorizer: Says who may grant what.
        metrics: What nodes and pods use.
    """

    def __init__(
        self, objects: ObjectStore, watches: Watches, tokens: Tokens, authorizer: Authorizer, metrics: Metrics
    ) -> None:
        self._metrics = metrics
        self._objects = objects
        self._watches = watches
        self._tokens = tokens
        self._authorizer = authorizer

    async def serve(self, request: web.Request, target: Target, user: User) -> web.StreamResponse:
        """Answer a request for `target` by `user`.

        Raises:
            ApiError: the refusal to send.
        """
        said = _DEPRECATED.get((target.group, target.plural))
        served = self._objects.registry.served(target.group, target.version, target.plural)
        if served is not None and served.resource.crd is not None:
            said = deprecated(served)
        if not said or self._objects.settings.legacy:
            return await self._serve(request, target, user)
        try:
            response = await self._serve(request, target, user)
        except ApiError as error:
            error.warnings.insert(0, said)
            raise
        if isinstance(response, web.Response):
            # It is said before what the object gives rise to.
            later = response.headers.popall("Warning", [])
            warned(response, [said])
            for one in later:
                response.headers.add("Warning", one)
        return response

    async def _serve(self, request: web.Request, target: Target, user: User) -> web.StreamResponse:
        served = self._objects.registry.served(target.group, target.version, target.plural)
        if served is None:
            raise refusals.no_such_resource(target.group)
        resource = served.resource
        if target.namespace is not None and not resource.namespaced:
            raise refusals.no_such_resource(target.group)
        if not resource.stored:
            return await self._review(request, served, target, user)
        if resource.computed:
            return await self._computed(request, served, target, user)
        if target.subresource and target.subresource not in resource.subresources:
            raise refusals.no_such_resource(target.group)
        if not target.name:
            return await self._collection(request, served, target, user)
        if resource.namespaced and target.namespace is None:
            raise refusals.no_such_resource(target.group)
        return await self._object(request, served, target, user)

    # --- collections

    async def _collection(self, request: web.Request, served: Served, target: Target, user: User) -> web.StreamResponse:
        resource, query = served.resource, request.query
        if request.method == "GET":
            view = self._view(request, served)
            if query.get("watch") in ("true", "1"):
                return await self._watches.serve(request, resource, target.namespace, "", view)
            entries, meta = page(self._objects, resource, target.namespace, query)
            return json_response(view.many(entries, meta))
        if request.method == "POST":
            if resource.namespaced and target.namespace is None:
                raise refusals.method_not_allowed()
            options = self._write_options(request, served, target, user)
            obj = await self._body(request, options, "")
            create = partial(self._objects.create, resource.name, obj, target.namespace, options=options)
            created = await _reviewed(create, options)
            return warned(json_response(self._view(request, served).one(created), 201), options.warnings)
        if request.method == "DELETE" and "deletecollection" in resource.verbs:
            options_ = await self._delete_options(request, user)
            entries, meta = page(self._objects, resource, target.namespace, query)
            listed = self._view(request, served).many(entries, meta)
            for entry in entries:
                if self._objects.store.entry(resource.name, key_of(entry)) is not None:
                    await _reviewed(partial(self._objects.remove, resource, entry, options_), options_.write)
            return json_response(listed)
        raise refusals.method_not_allowed()

    async def _computed(self, request: web.Request, served: Served, target: Target, user: User) -> web.StreamResponse:
        """Objects that are made when they are asked for."""
        query, resource = request.query, served.resource
        kept = self._objects.store.entry(resource.name, ("", target.name)) is not None
        if kept and request.method in ("PUT", "PATCH", "DELETE"):
            return await self._object(request, served, target, user)
        if request.method == "POST" and not target.name:
            options = self._write_options(request, served, target, user)
            wanted, options.dry_run = options.dry_run, True
            body = await self._body(request, options)
            created = self._objects.writes.create(resource, clone(body), None, options)
            name = created["metadata"]["name"]
            if not wanted and created["spec"].get("service") is None:
                raise refusals.method_not_allowed()
            if not wanted and name != API_SERVICE:
                why = f"the sandbox asks no other API server: it plays {API_SERVICE} only"
                raise refusals.forbidden(resource, name, why)
            if not wanted:
                options.dry_run = False
                created = self._objects.create(resource.name, body, options=options)
            return json_response(created, 201)
        if request.method != "GET" or query.get("watch") in ("true", "1"):
            raise refusals.method_not_allowed()
        given = {"labels": query.get("labelSelector", ""), "fields": query.get("fieldSelector", "")}
        if resource.name in METRICS:
            self._metrics.check()
            found = await self._metrics.answer(resource, target.namespace, target.name, given["labels"])
        elif resource.name == "componentstatuses":
            found = component_statuses(name=target.name, **given)
        else:
            found = apiservices(self._objects, name=target.name, **given)
        if target.name and not found:
            raise refusals.not_found(resource, target.name)
        view = self._view(request, served)
        if target.name:
            return json_response(view.one(found[0].obj))
        return json_response(view.many(found, {"resourceVersion": str(self._objects.store.version)}))

    # --- objects

    async def _object(self, request: web.Request, served: Served, target: Target, user: User) -> web.StreamResponse:
        resource, method, sub = served.resource, request.method, target.subresource
        name, namespace = target.name, target.namespace
        view = self._view(request, served)
        if sub == "resize" and method != "GET":
            why = "the sandbox resizes no running pod: change the template of whatever made it"
            raise refusals.forbidden(resource, name, why)
        if method == "GET" and sub in ("", "status", "resize", EPHEMERAL):
            if request.query.get("watch") in ("true", "1"):
                return await self._watches.serve(request, resource, namespace, name, view)
            check_version(request.query.get("resourceVersion", ""), self._objects.store.version)
            entry = self._objects.entry(resource, name, namespace)
            return json_response(view.one(entry.obj))
        if sub == "scale" and method == "GET":
            return json_response(view.scale(scale_of(resource, self._objects.entry(resource, name, namespace).obj)))
        if method == "PUT" and sub in ("", "status", "scale", "finalize", "approval", EPHEMERAL):
            options = self._write_options(request, served, target, user)
            obj = await self._body(request, options, sub)
            updated = await _reviewed(partial(self._put, served, target, obj, options), options)
        elif method == "PATCH" and sub in ("", "status", "scale", "approval", EPHEMERAL):
            options = self._write_options(request, served, target, user)
            updated = await self._patch(request, served, target, options, user)
        elif method == "DELETE" and not sub:
            return await self._delete(request, served, target, user)
        elif method == "POST" and sub in ("eviction", "binding", "token"):
            return await self._action(request, served, target, user)
        else:
            raise refusals.method_not_allowed()
        shown = scale_of(resource, updated) if sub == "scale" else view.one(updated)
        return warned(json_response(shown, 201 if options.created else 200), options.warnings)

    def _put(self, served: Served, target: Target, obj: Obj, options: WriteOptions) -> Obj:
        resource = served.resource
        place(obj, target.name, target.namespace)
        entry = self._objects.entry(resource, target.name, target.namespace)
        return self._objects.replace(resource, entry, obj, options, target.subresource)

    async def _patch(
        self, request: web.Request, served: Served, target: Target, options: WriteOptions, user: User
    ) -> Obj:
        kind = _PATCHES.get(request.content_type)
        if kind is None:
            raise refusals.unsupported_media_type(list(_PATCHES))
        duplicates: list[str] | None = [] if options.validation in ("Warn", "Strict") and kind != "json" else None
        patch = bodies.parse(await bodies.read(request), request.content_type, duplicates)
        options.duplicates = [f'duplicate field "{path}"' for path in duplicates or ()]
        name, namespace = target.name, target.namespace
        if kind == "apply":
            force = request.query.get("force") in ("true", "1")
            write = partial(self._applied, user, target, force=force)
        else:
            write = partial(self._objects.patch, kind=kind)  # type: ignore[arg-type]
        asked = partial(write, served.resource.name, name, patch, namespace)
        return await _reviewed(partial(asked, subresource=target.subresource, options=options), options)

    def _applied(self, user: User, target: Target, *arguments: Any, **options: Any) -> Obj:
        """As `ObjectStore.apply`; who may change objects may not for that make them.

        Raises:
            ApiError: 403 where there is none, and the user may create none.
        """
        if self._objects.find(arguments[0], target.name, target.namespace) is None:
            asked = attributes("POST", "", target, {})
            if not self._authorizer.decide(user, asked).allowed:
                raise forbidden(user, asked)
        return self._objects.apply(*arguments, **options)

    async def _delete(self, request: web.Request, served: Served, target: Target, user: User) -> web.Response:
        options = await self._delete_options(request, user)
        resource = served.resource
        obj, gone = await self._removed(served, target, options)
        if gone and resource.name not in _RETURNS_DELETED:
            details = {
                "name": target.name,
                "group": resource.group,
                "kind": resource.plural,
                "uid": obj["metadata"]["uid"],
            }
            done = success({key: value for key, value in details.items() if value})
            return warned(done, options.write.warnings)
        return warned(json_response(self._view(request, served).one(obj)), options.write.warnings)

    async def _removed(self, served: Served, target: Target, options: DeleteOptions) -> tuple[Obj, bool]:
        """Delete one object; what `ObjectStore.remove` returns."""

        def remove() -> tuple[Obj, bool]:
            entry = self._objects.entry(served.resource, target.name, target.namespace)
            return self._objects.remove(served.resource, entry, options)

        return await _reviewed(remove, options.write)

    async def _action(self, request: web.Request, served: Served, target: Target, user: User) -> web.Response:
        body = await self._body(request, WriteOptions())
        resource, name, namespace = served.resource, target.name, target.namespace
        if target.subresource == "token":
            account = self._objects.get(resource.name, name, namespace)
            return json_response(reviews.token_request(body, account, self._tokens, self._objects), 201)
        if target.subresource == "eviction":
            if as_dict(body.get("metadata")).get("name") != name:
                raise refusals.bad_request("name in URL does not match name in Eviction object")
            options = delete_options(body.get("deleteOptions") or {}, request.query)
            evictions.admit(self._objects, self._objects.get(resource.name, name, namespace), dry_run=options.dry_run)
            options.write = WriteOptions(user=user, reviews=Reviews())
            await self._removed(served, target, options)
        else:
            self._bind(request, body, name, namespace)
        return success({}, 201)

    def _bind(self, request: web.Request, binding: Obj, name: str, namespace: str | None) -> None:
        """Put a pod on a node, as a scheduler asks."""
        pod = self._objects.get("pods", name, namespace)
        on = bindings.asked(binding, pod, legacy=self._objects.settings.legacy)
        options = WriteOptions(dry_run=dry_run(request.query.getall("dryRun", [])))
        self._objects.update("pods", on, subresource=bindings.BINDING, options=options)

    async def _review(self, request: web.Request, served: Served, target: Target, user: User) -> web.Response:
        if request.method != "POST":
            raise refusals.method_not_allowed()
        body = await self._body(request, WriteOptions())
        body.setdefault("apiVersion", served.api_version)
        if served.resource.kind == "Binding":
            meta = body.get("metadata")
            name = str(meta.get("name") or "") if isinstance(meta, dict) else ""
            self._bind(request, body, name, target.namespace)
            return success({}, 201)
        return json_response(reviews.answer(served.resource, body, user, self._tokens, self._authorizer), 201)

    # --- what a request says

    def _view(self, request: web.Request, served: Served) -> View:
        form = form_of(request.headers.get("Accept", ""))
        include = request.query.get("includeObject", "")
        return View(served, form, include, legacy=self._objects.settings.legacy)

    def _write_options(self, request: web.Request, served: Served, target: Target, user: User) -> WriteOptions:
        query = request.query
        kind = {"PUT": "UpdateOptions", "PATCH": "PatchOptions"}.get(request.method, "CreateOptions")
        dry, validation = write_options(query, kind, applies=request.content_type == bodies.APPLY_PATCH)
        manager = query.get("fieldManager", "") or request.headers.get("User-Agent", "").split("/")[0][:128]
        asked = attributes(request.method, request.path, target, query)
        return WriteOptions(
            manager=manager,
            dry_run=dry,
            validation=validation,  # type: ignore[arg-type]
            served=served,
            user=user,
            reviews=Reviews(),
            vet=partial(escalation.check, user, asked, self._authorizer) if target.group == escalation.GROUP else None,
        )

    async def _body(self, request: web.Request, options: WriteOptions, sub: str = "scale") -> Obj:
        content_type = request.content_type if "Content-Type" in request.headers else "application/json"
        if content_type not in ("application/json", "application/yaml", bodies.PROTOBUF):
            raise refusals.unsupported_media_type(("application/json", "application/yaml", bodies.PROTOBUF))
        duplicates: list[str] | None = [] if options.validation in ("Warn", "Strict") else None
        body = await bodies.read(request)
        try:
            value = bodies.parse(body, content_type, duplicates, options.warnings)
        except ApiError as error:
            raise unreadable(options.served, error, body) if content_type.endswith("json") else error from None
        if not isinstance(value, dict):
            raise unreadable(options.served, no_object(value), body)
        options.duplicates = [f'duplicate field "{path}"' for path in duplicates or ()]
        if options.served is not None and sub != "scale":
            check_type(options.served, value, body, self._objects.registry)
        return value

    async def _delete_options(self, request: web.Request, user: User) -> DeleteOptions:
        body: Any = {}
        if content := await bodies.read(request):
            body = bodies.parse(content, request.content_type)
        # Of a request with a body the server does not look at the query.
        options = delete_options(body, {} if content else request.query)
        options.write = WriteOptions(user=user, reviews=Reviews())
        return options
