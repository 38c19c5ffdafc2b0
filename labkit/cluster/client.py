# SPDX-License-Identifier: Apache-2.0
"""One kept connection to the chosen cluster, by the official client: what labkit itself reads, and the marks it writes.

It is made from a kubeconfig of labkit's own and from nothing else, when something is asked first: importing the client
takes as long as three kubectls.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import yaml

from labkit.cluster.explain import explain
from labkit.ground.errors import ClusterError

__all__ = ["Client", "Obj", "end", "of"]

Obj = dict[str, Any]
"""A Kubernetes object, as its JSON gives it."""

CONNECT, PATIENCE = 10.0, 60.0
"""Seconds until a connection has to be there, and that an answer may then take."""

_JSON = "application/json"


def parts(text: str) -> tuple[Obj, Obj, Obj]:
    """The current context of a kubeconfig's text (with its name), its cluster and its user.

    By their names: what made a cluster in a cell has put it into this file as well.

    Raises:
        ValueError, LookupError, TypeError, yaml.YAMLError: It is damaged.
    """
    # kubectl writes YAML where somebody changed it.
    known = json.loads(text) if text.startswith("{") else yaml.safe_load(text)
    context = _named(known["contexts"], known["current-context"])
    about = context["context"]
    user = _named(known["users"], about["user"])["user"] if about.get("user") else {}
    return context, _named(known["clusters"], about["cluster"])["cluster"], user or {}


def _named(entries: list[Obj], name: str) -> Obj:
    return [entry for entry in entries if entry["name"] == name][0]  # noqa: RUF015 (an IndexError says that none is)


class Client:
    """The way to one cluster.

    Args:
        file: A kubeconfig of our own.
        text: What stands in it.
        shown: What the cluster is called in an error.

    Raises:
        ClusterError: Nobody can be asked with it.
    """

    def __init__(self, file: Path, text: str, shown: str) -> None:
        self.file, self.text, self.shown = file, text, shown
        self._parts = context, cluster, user = parts(text)
        self.namespace: str = context["context"].get("namespace") or "default"
        self.server: str = cluster["server"]
        self.known: list[Any] = []
        """What `resources` found that it serves."""
        extra = user.get("as-user-extra") or {}
        acting = {"User": [user.get("as")], "Uid": [user.get("as-uid")], "Group": user.get("as-groups") or []}
        acting |= {f"Extra-{key}": values for key, values in extra.items()}
        self._acting = [(f"Impersonate-{key}", one) for key, values in acting.items() for one in values if one]
        self._log_in()

    def _log_in(self) -> None:
        # With the official client, which takes its time.
        from labkit.cluster import login

        self._api, self._without_login = login.api_client(self.file, self._parts, self.shown)

    def close(self) -> None:
        """End its connections."""
        self._api.close()

    def ask(self, typed: str, path: str, **how: Any) -> Obj:
        """What is at a path; as `send`, but a refusal is raised, in kubectl's words."""
        status, answer = self.send(typed, path, **how)
        if status >= 400:
            raise self.refusal(typed, status, answer)
        return answer

    def refusal(self, typed: str, status: int, answer: Obj) -> ClusterError:
        """The error for an answer that is a refusal."""
        said = f"Error from server ({answer.get('reason') or status}): {answer.get('message') or 'no reason given'}"
        if status == 401:
            said = "\n".join(["error: You must be logged in to the server (Unauthorized)", *self._without_login])
        return explain(typed, said, 1, self.shown)

    def send(
        self,
        typed: str,
        path: str,
        *,
        method: str = "GET",
        query: Mapping[str, str] | None = None,
        body: Obj | None = None,
        accept: str = _JSON,
        plain: bool = False,
        patience: float = 0.0,
    ) -> tuple[int, Obj]:
        """Status and body of an answer, also of a refusal; text is the message of a Status.

        Args:
            typed: The kubectl command that would ask the same; errors name it.
            path: Below the server's root.
            method: GET; POST with an object; PATCH with a merge patch.
            query: What follows the question mark.
            body: What is sent.
            accept: The media type wanted.
            plain: Whether text is asked for, such as a log.
            patience: Seconds without a byte; 0 for `PATIENCE`.

        Raises:
            ClusterError: Nobody answers.
        """
        address = f"{path}?{urlencode(query)}" if query else path
        answer = self._answer(typed, method, address, accept, body, patience or PATIENCE)
        return answer.status, _content(answer.data, plain and answer.status == 200)

    def stream(self, typed: str, path: str, query: Mapping[str, str], patience: float) -> Any:
        """An answer of which more comes by and by, as urllib3 has it; who asked closes it. Arguments as of `send`.

        Raises:
            ClusterError: A refusal, or nobody answers.
        """
        answer = self._answer(typed, "GET", f"{path}?{urlencode(query)}", _JSON, None, patience, whole=False)
        if answer.status >= 400:
            raise self.refusal(typed, answer.status, _content(answer.data))
        return answer

    def _answer(
        self, typed: str, method: str, address: str, accept: str, body: Obj | None, patience: float, whole: bool = True
    ) -> Any:
        """An answer, as urllib3 has it; with `whole` it has been read."""
        from kubernetes.client import ApiException
        from urllib3 import HTTPHeaderDict
        from urllib3.exceptions import HTTPError, ProtocolError

        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else _JSON
        # A kept connection may have been ended by the other side just now; a token may have run out, or a newer one may
        # lie in its file.
        may_break, may_refuse = method == "GET", True
        while True:
            url, signed, sent = self._signed(method, address, headers, body)
            every = HTTPHeaderDict()
            for name, value in signed:
                every.add(name, value)
            try:
                limits = min(CONNECT, patience), patience
                answer = self._api.call_api(method, url, every, sent, _request_timeout=limits).response
                if whole:
                    # Kept with it.
                    answer.data  # noqa: B018
            except (HTTPError, ApiException, OSError) as error:
                if not (may_break and isinstance(error, ProtocolError)):
                    raise self._silent(typed, error, patience) from None
                may_break = False
                continue
            if answer.status != 401 or not may_refuse:
                return answer
            may_refuse = False
            self._log_in()

    def _signed(
        self, method: str, address: str, headers: Mapping[str, str], body: Obj | None = None
    ) -> tuple[str, list[tuple[str, str]], Any]:
        """URL, headers and body of a request, with who asks; this also renews a login that has run out."""
        _, url, signed, sent, _ = self._api.param_serialize(
            method, address, header_params=dict(headers), body=body, auth_settings=["BearerToken"]
        )
        return url, [*signed.items(), *self._acting], sent

    def websocket(self, path: str, protocol: str) -> Any:
        """A WebSocket of the API's, as websocket-client has it.

        Args:
            path: Below the server's root, with its query.
            protocol: What is spoken on it.

        Raises:
            OSError: It does not come about; a refusal in the cluster's own words.
        """
        import websocket

        from labkit.cluster import login

        for last in (False, True):
            url, signed, _ = self._signed("GET", path, {})
            try:
                return websocket.create_connection(
                    f"ws{url.removeprefix('http')}",
                    timeout=PATIENCE,
                    header=[f"{name}: {value}" for name, value in signed],
                    subprotocols=[protocol],
                    suppress_origin=True,
                    **login.websocket_options(self._api.configuration),
                )
            except (websocket.WebSocketException, OSError) as error:
                status, body = getattr(error, "status_code", 0), getattr(error, "resp_body", None)
                if last or status != 401:
                    said = f"error upgrading connection ({status}): {_content(body).get('message')}" if body else ""
                    raise ConnectionError(said or f"{path}: {error}") from error
                self._log_in()
        raise AssertionError

    def _silent(self, typed: str, error: Exception, patience: float) -> ClusterError:
        """The error for no answer, in kubectl's words as far as it has any."""
        words, kind = str(getattr(error, "reason", None) or error), type(error).__name__
        where, host = urlsplit(self.server).netloc, urlsplit(self.server).hostname
        if kind == "ReadTimeoutError":
            step = f"Is the cluster well? `kubectl get nodes` on {self.shown}."
            return ClusterError(f"{typed}\n{self.server} said nothing within {patience:g} s", next_step=step)
        if kind == "NewConnectionError" and "refused" in words:
            said = f"The connection to the server {where} was refused - did you specify the right host or port?"
        elif kind == "NameResolutionError":
            said = f"Unable to connect to the server: dial tcp: lookup {host}: no such host"
        elif kind == "ConnectTimeoutError":
            said = f"Unable to connect to the server: dial tcp {where}: i/o timeout"
        else:
            x509 = "x509: " if "certificate verify failed" in words else ""
            said = f"Unable to connect to the server: {x509}{words.splitlines()[-1]}"
        return explain(typed, said, 1, self.shown)


def _content(data: bytes, plain: bool = False) -> Obj:
    """What an answer holds; text, and what is no object, as the message of a Status."""
    found = None
    if not plain:
        with contextlib.suppress(ValueError):
            found = json.loads(data)
    if isinstance(found, dict):
        return found
    text = data.decode(errors="replace")
    # A log was asked for by the number of its lines; a page that came in place of an object is only shown.
    return {"message": text if plain else text[:4000]}


_kept: Client | None = None
_lock = threading.Lock()


def of(file: Path, shown: str) -> Client:
    """The client for a kubeconfig of our own, as it is written now; one is kept.

    Raises:
        ClusterError: It cannot be read, or nobody can be asked with it.
    """
    global _kept
    try:
        text = file.read_text()
    except OSError as error:
        raise ClusterError(f"{file} cannot be read: {error.strerror}", next_step="Choose the cluster again.") from None
    with _lock:
        if _kept is None or (_kept.text, _kept.shown) != (text, shown):
            end()
            _kept = Client(file, text, shown)
        return _kept


def end() -> None:
    """Have no client: no cluster is in use."""
    global _kept
    before, _kept = _kept, None
    if before is not None:
        before.close()
