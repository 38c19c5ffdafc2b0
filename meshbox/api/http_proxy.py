# SPDX-License-Identifier: Apache-2.0
"""The API server as a proxy to pods and Services: /api/v1/namespaces/NS/services/[SCHEME:]NAME[:PORT]/proxy/PATH."""

from __future__ import annotations

from urllib.parse import unquote

import aiohttp
from aiohttp import web
from msgspec import Struct
from multidict import CIMultiDict
from yarl import URL

from meshbox.addresses import AddressPlan
from meshbox.api import refusals
from meshbox.api.backends import NoBackendError, backend, of_this_machine
from meshbox.api.objects import ObjectStore
from meshbox.contracts import ApiError

__all__ = ["Proxied", "proxied_to", "relay"]

_KINDS = ("pods", "services")
_OWN = frozenset(
    {"authorization", "connection", "host", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "content-length", "impersonate-user", "impersonate-group", "impersonate-uid"}
)
"""Headers that are of one connection, or of the API's own business: what is behind does not see them."""


class Proxied(Struct, frozen=True):
    """What a request to a proxy subresource names.

    Args:
        plural: "pods" or "services".
        namespace: Where.
        name: As in the path, with scheme and port: "https:web:443".
        path: What is asked of it, beginning with "/", as it was written.
    """

    plural: str
    namespace: str
    name: str
    path: str

    @property
    def parts(self) -> tuple[str, str, str]:
        """Scheme, name and port ("" where none is named)."""
        words = self.name.split(":")
        if len(words) == 1:
            return "http", words[0], ""
        if len(words) == 2:
            return "http", words[0], words[1]
        return words[0] or "http", words[1], words[2]


def proxied_to(raw_path: str) -> Proxied | None:
    """What a request path names, if it is one to a pod's or a Service's proxy; else None."""
    head, found, rest = raw_path.partition("/proxy")
    parts = [unquote(part) for part in head.split("/") if part]
    if not found or parts[:3] != ["api", "v1", "namespaces"] or len(parts) != 6 or parts[4] not in _KINDS:
        return None
    if rest and not rest.startswith("/"):
        return None
    return Proxied(parts[4], parts[3], parts[5], rest or "/")


def _place(objects: ObjectStore, plan: AddressPlan, asked: Proxied) -> tuple[str, int]:
    """Address and real port.

    Raises:
        ApiError: there is none.
    """
    _, name, port = asked.parts
    if asked.plural == "services":
        objects.get("services", name, asked.namespace)
        try:
            address, number = backend(objects.store, asked.namespace, name, port)
        except NoBackendError as error:
            raise ApiError(503, "ServiceUnavailable", str(error)) from error
    else:
        pod = objects.get("pods", name, asked.namespace)
        address = str((pod.get("status") or {}).get("podIP") or "")
        ports = [one for item in pod["spec"]["containers"] for one in item.get("ports") or ()]
        named = next((one["containerPort"] for one in ports if port in (one.get("name"), "")), 80)
        if port and not port.isdigit() and not any(one.get("name") == port for one in ports):
            raise refusals.bad_request(f"no port {refusals.quoted(port)} in pod {name}")
        number = int(port) if port.isdigit() else int(named)
    if not of_this_machine(address) or not 0 < number < 65536:
        raise refusals.bad_request("address not allowed")
    return address, plan.port(number)


async def relay(request: web.Request, objects: ObjectStore, plan: AddressPlan, asked: Proxied) -> web.StreamResponse:
    """Pass a request on, and the answer back.

    Raises:
        ApiError: 400, 404 or 503 where nobody can be asked.
    """
    if "Upgrade" in request.headers:
        raise refusals.bad_request("the sandbox's proxy passes on no upgrades: use kubectl port-forward")
    address, port = _place(objects, plan, asked)
    scheme = asked.parts[0]
    if scheme not in ("http", "https"):
        raise refusals.bad_request(f"unsupported scheme {refusals.quoted(scheme)}")
    host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    _, mark, query = request.raw_path.partition("?")
    headers = CIMultiDict((key, value) for key, value in request.headers.items() if key.lower() not in _OWN)
    headers["X-Forwarded-Uri"] = request.raw_path.partition("?")[0]
    async with aiohttp.ClientSession(
        trust_env=False, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        try:
            answer = await session.request(
                request.method,
                URL(f"{scheme}://{host}{asked.path}{mark}{query}", encoded=True),
                headers=headers,
                data=request.content if request.body_exists else None,
                ssl=False,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            why = f"dial tcp {host}: connect: connection refused" if isinstance(error, OSError) else "EOF"
            raise ApiError(503, "ServiceUnavailable", f"error trying to reach service: {why}") from error
        async with answer:
            kept = [(key, value) for key, value in answer.headers.items() if key.lower() not in _OWN]
            response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=CIMultiDict(kept))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response
