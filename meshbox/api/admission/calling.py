# SPDX-License-Identifier: Apache-2.0
"""A call of a webhook: to a pod behind its Service, or to a URL of this machine, by TLS; Go's words where it fails."""

from __future__ import annotations

import asyncio
import base64
import errno
import functools
import json
import ssl
import uuid
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from labkit.ground import reading
from meshbox.addresses import AddressPlan
from meshbox.api.backends import NoBackendError, backend, of_this_machine
from meshbox.api.refusals import quoted
from meshbox.api.store import Store
from meshbox.api.webhook_answers import Answer, Call
from meshbox.contracts import Obj

__all__ = ["Caller", "outside"]

_LONGEST_ANSWER = 3 << 20
_GO_ERRORS = {
    errno.ECONNREFUSED: "connect: connection refused",
    errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable",
}


class _CallError(Exception):
    """A call that did not come about."""


def outside(config: Obj) -> bool:
    """Whether `clientConfig` names a URL that is not of this machine: the sandbox calls nobody else."""
    host = urlsplit(str(config.get("url") or "https://localhost")).hostname or ""
    return host != "localhost" and not of_this_machine(host)


class Caller:
    """Calls webhooks.

    Args:
        store: Where Services and their endpoints are.
        plan: The sandbox's addresses.
    """

    def __init__(self, store: Store, plan: AddressPlan) -> None:
        self._store = store
        self._plan = plan

    async def ask(self, call: Call) -> Answer:
        """What the webhook says; a call that fails is an answer too."""
        config = call.webhook.get("clientConfig") or {}
        seconds = int(call.webhook.get("timeoutSeconds") or 10)
        url, host = _url(config)
        try:
            async with asyncio.timeout(seconds):
                status, body = await self._post(config, url, host, f"{url}?timeout={seconds}s", call)
        except TimeoutError:
            problem = f'Post "{url}?timeout={seconds}s": context deadline exceeded'
        except _CallError as error:
            problem = f'Post "{url}?timeout={seconds}s": {error}'
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = f'Post "{url}?timeout={seconds}s": {_go_words(error, host)}'
        else:
            return _read(status, body, call)
        return Answer(failed=f"failed to call webhook: {problem}")

    async def _post(self, config: Obj, url: str, host: str, whole: str, call: Call) -> tuple[int, tuple[str, bytes]]:
        address, port = self._place(config, url)
        trust = _trust(config.get("caBundle") or "")
        ident = str(uuid.uuid4())
        versions = call.webhook.get("admissionReviewVersions") or ("v1beta1",)
        version = next((one for one in versions if one in ("v1", "v1beta1")), "v1")
        review = {
            "kind": "AdmissionReview",
            "apiVersion": f"admission.k8s.io/{version}",
            "request": {"uid": ident, **call.request},
        }
        where = urlsplit(url)
        target = where._replace(netloc=f"[{address}]:{port}" if ":" in address else f"{address}:{port}").geturl()
        headers = {"Host": where.netloc, "Content-Type": "application/json", "Accept": "application/json"}
        headers["User-Agent"] = "kube-apiserver-admission"
        query = whole.rpartition("?")[2]
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.post(
                f"{target}?{query}",
                data=json.dumps(review).encode(),
                headers=headers,
                ssl=trust,
                server_hostname=host,
                allow_redirects=False,
            ) as response,
        ):
            content = await response.content.read(_LONGEST_ANSWER + 1)
            while len(content) <= _LONGEST_ANSWER and (more := await response.content.read(_LONGEST_ANSWER)):
                content += more
            if len(content) > _LONGEST_ANSWER:
                raise _CallError("the answer is longer than 3 MB")
            return response.status, (ident, content)

    def _place(self, config: Obj, url: str) -> tuple[str, int]:
        """Address and real port of whom to call."""
        service = config.get("service")
        if service is None:
            if outside(config):
                raise _CallError("the sandbox calls nobody but this machine: name a Service, or a loopback address")
            where = urlsplit(url)
            host = where.hostname or ""
            return ("127.0.0.1" if host == "localhost" else host), where.port or 443
        try:
            port = str(service.get("port") or 443)
            address, number = backend(self._store, service["namespace"], service["name"], port)
        except NoBackendError as error:
            raise _CallError(str(error)) from error
        if not of_this_machine(address):
            raise _CallError(f"the sandbox calls nobody but this machine, and {address} is behind that Service")
        return address, self._plan.port(number)


def _url(config: Obj) -> tuple[str, str]:
    """The URL as messages have it, and the name that the server's certificate must be for."""
    service = config.get("service")
    if service is None:
        url = str(config.get("url") or "")
        return url, urlsplit(url).hostname or ""
    host = f"{service['name']}.{service['namespace']}.svc"
    return f"https://{host}:{service.get('port') or 443}/{str(service.get('path') or '').lstrip('/')}", host


@functools.lru_cache(maxsize=32)
def _trust(bundle: str) -> ssl.SSLContext:
    """Whom to trust: those whose certificates are in a `caBundle`, or the machine's own where it is empty."""
    if not bundle:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
    except (ssl.SSLError, ValueError) as error:
        raise _CallError("unable to load root certificates: unable to parse bytes as PEM block") from error


def _go_words(error: Exception, host: str) -> str:
    """Why a connection failed, as Go says it."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        known = {
            10: "certificate has expired or is not yet valid",
            62: f"certificate is not valid for any names, but wanted to match {host}",
        }
        why = known.get(cause.verify_code, "certificate signed by unknown authority")
        return f"tls: failed to verify certificate: x509: {why}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(cause, ssl.SSLError):
        return "tls: first record does not look like a TLS handshake"
    if isinstance(cause, OSError) and cause.errno is not None:
        key = getattr(error, "host", ""), getattr(error, "port", "")
        return f"dial tcp {key[0]}:{key[1]}: {_GO_ERRORS.get(cause.errno, f'connect: {cause.strerror}')}"
    return "the answer is no HTTP"


def _read(status: int, answered: tuple[str, bytes], call: Call) -> Answer:
    """The answer in what a server sent."""
    ident, body = answered
    if status == 404:
        return Answer(failed="failed to call webhook: the server could not find the requested resource")
    if not 200 <= status < 300:
        said = quoted(body.decode("utf-8", "replace").strip()[:2048] or "unknown")
        why = f"an error on the server ({said}) has prevented the request from succeeding"
        return Answer(failed=f"failed to call webhook: {why}")
    try:
        review = reading.json_value(body.decode())
    except ValueError:
        why = "couldn't get version/kind; json parse error: the answer is no JSON"
        return Answer(failed=f"failed to call webhook: {why}")
    try:
        return _answer(review, ident, call)
    except _CallError as error:
        return Answer(failed=f"received invalid webhook response: {error}")


def _answer(review: Any, ident: str, call: Call) -> Answer:
    """What a review says.

    Raises:
        _CallError: It is none, or not of this call.
    """
    given = review if isinstance(review, dict) else {}
    version, kind = str(given.get("apiVersion") or ""), str(given.get("kind") or "")
    if version not in ("admission.k8s.io/v1", "admission.k8s.io/v1beta1") or kind != "AdmissionReview":
        seen = f"{version}, Kind={kind}"
        raise _CallError(f"expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {seen}")
    response = given.get("response")
    if not isinstance(response, dict):
        raise _CallError("webhook response was absent")
    strict = version.endswith("/v1")
    if strict and response.get("uid") != ident:
        raise _CallError(f"expected response.uid={quoted(ident)}, got {quoted(str(response.get('uid') or ''))}")
    patch, patch_type = response.get("patch"), response.get("patchType")
    if strict and not call.mutating and (patch or patch_type):
        raise _CallError(f"validating webhook may not return response.{'patch' if patch else 'patchType'}")
    if strict and bool(patch) != bool(patch_type):
        one, other = ("patch", "patchType") if patch else ("patchType", "patch")
        raise _CallError(f"webhook returned response.{one} but not response.{other}")
    if patch and patch_type not in ("JSONPatch", None):
        raise _CallError(f"webhook returned invalid response.patchType of {quoted(str(patch_type))}")
    steps: Any = []
    if patch and call.mutating:
        try:
            steps = reading.json_value(base64.b64decode(str(patch), validate=True).decode())
        except ValueError as error:
            raise _CallError("response.patch is no JSON patch in base64") from error
    status, warnings, audit = response.get("status"), response.get("warnings"), response.get("auditAnnotations")
    return Answer(
        allowed=response.get("allowed") is True,
        status=status if isinstance(status, dict) else {},
        patch=steps or (),
        warnings=[str(one) for one in warnings] if isinstance(warnings, list) else (),
        audit=audit if isinstance(audit, dict) else {},
    )
