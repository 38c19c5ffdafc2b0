# SPDX-License-Identifier: Apache-2.0
"""The secrets that proxies ask for: their identity, whom they trust, the credentials that gateways and rules name."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from meshbox.mesh.certificates import Authority
from meshbox.mesh.credentials import CredentialError, client_roots_in, pair_in, secret_of, text_in
from meshbox.mesh.envoy import Json, typed
from meshbox.mesh.gateway_api.binding import permitted_credential
from meshbox.mesh.kinds import CONFIG_MAPS, DESTINATION_RULES
from meshbox.mesh.model import Workload
from meshbox.mesh.semantics import GATEWAY_API
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from meshbox.typed.services import Secret

__all__ = ["SecretSource", "credential", "system_roots"]

log = logging.getLogger(__name__)


_SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class SecretSource:
    """Gives each proxy the secrets that are its own to have.

    Args:
        authority: Signs identities.
        snapshot: Gives the current objects.
    """

    def __init__(self, authority: Authority, snapshot: Callable[[], Snapshot]) -> None:
        self._authority = authority
        self._snapshot = snapshot

    def get(self, pod: tuple[str, str], name: str) -> bytes | None:
        """The secret `name` for the proxy of `pod`, as JSON; None while there is none that can be used."""
        try:
            content = self._content(pod, name)
        except CredentialError as error:
            log.debug("%s of %s/%s %s", name, *pod, error)
            return None
        return None if content is None else json.dumps(typed(_SECRET, name=name, **content)).encode()

    def _content(self, pod: tuple[str, str], name: str) -> Json | None:
        workload = self._snapshot().workloads.get(pod)
        if workload is None:
            return None
        if name == "default":
            identity = self._authority.identity(workload.principal)
            return _certificate(identity.chain, identity.key)
        if name == "ROOTCA":
            return _trusted(self._authority.root)
        scheme, _, rest = name.partition(":")
        if scheme == "configmap" or (scheme == "kubernetes-gateway" and not rest.startswith(f"//{pod[0]}/")):
            return self._of_gateway(workload, name)
        if (place := secret_of(name, pod[0])) is not None:
            # Whoever may write a Gateway or a rule in one namespace may not for that read the Secrets of another.
            return self._credential(*place) if place[0] == pod[0] else None
        if scheme == "file-cert":
            chain, _, key = rest.partition("~")
            certificate, private = self._file(pod, chain), self._file(pod, key)
            return _certificate(certificate, private) if certificate and private else None
        if scheme == "file-root":
            path, _, revoked = rest.partition("~")
            roots = system_roots() if path == "system" else self._file(pod, path)
            revocations = self._file(pod, revoked) if revoked else ""
            # Without the list nobody could tell whom not to trust.
            return _trusted(roots, revocations) if roots and bool(revocations) == bool(revoked) else None
        return None

    def _credential(self, namespace: str, name: str, roots: bool) -> Json | None:
        secret = credential(self._snapshot().secrets, namespace, name, roots=roots)
        if secret is None:
            return None
        return _trusted(*client_roots_in(secret)) if roots else _certificate(*pair_in(secret))

    def _of_gateway(self, workload: Workload, asked: str) -> Json | None:
        """What a listener of the Gateway API names; only those proxies that play it are given it."""
        snapshot = self._snapshot()
        credential = asked.removesuffix("-cacert")
        permitted = any(permitted_credential(snapshot.converted.gateways, workload, one) for one in (asked, credential))
        if not permitted and credential not in _backend_roots(snapshot):
            return None
        if (place := secret_of(asked, workload.namespace)) is not None:
            return self._credential(*place)
        namespace, _, name = asked.partition("://")[2].partition("/")
        data = _config_map(snapshot, namespace, name.removesuffix("-cacert"))
        roots = data.get("cacert") or data.get("ca.crt")
        return _trusted(roots) if roots else None

    def _file(self, key: tuple[str, str], path: str) -> str:
        """A file as the proxy's container sees it: from the Secret or ConfigMap that is mounted there."""
        if path.startswith("/etc/certs/"):
            return self._citadel_file(key, path.removeprefix("/etc/certs/"))
        snapshot = self._snapshot()
        spec = snapshot.pods[key]["spec"]
        containers = [*spec.get("containers", []), *spec.get("initContainers", [])]
        proxy = next((c for c in containers if c["name"] == "istio-proxy"), None)
        volumes = {volume["name"]: volume for volume in spec.get("volumes") or []}
        for mount in (proxy or {}).get("volumeMounts") or []:
            folder = mount["mountPath"].rstrip("/")
            if not path.startswith(f"{folder}/"):
                continue
            volume, entry = volumes.get(mount["name"], {}), path.removeprefix(f"{folder}/")
            if "secret" in volume:
                return text_in(snapshot.secrets.get((key[0], volume["secret"].get("secretName", ""))), entry)
            if "configMap" in volume:
                return _config_map(snapshot, key[0], volume["configMap"].get("name", "")).get(entry, "")
        return ""

    def _citadel_file(self, key: tuple[str, str], name: str) -> str:
        identity = self._authority.identity(self._snapshot().workloads[key].principal)
        files = {"cert-chain.pem": identity.chain, "key.pem": identity.key, "root-cert.pem": self._authority.root}
        return files.get(name, "")


def _backend_roots(snapshot: Snapshot) -> set[str]:
    """The CAs that BackendTLSPolicies name: every client has to know whom to trust."""
    rules = (one for one in snapshot.all(DESTINATION_RULES) if GATEWAY_API in one["metadata"]["name"])
    policies = [(one["spec"].get("trafficPolicy") or {}) for one in rules]
    tls = [policy.get("tls") or {} for policy in policies]
    tls += [level.get("tls") or {} for policy in policies for level in policy.get("portLevelSettings") or []]
    return {one["credentialName"] for one in tls if one.get("credentialName", "").startswith("configmap://")}


def _config_map(snapshot: Snapshot, namespace: str, name: str) -> Mapping[str, str]:
    """The data of a ConfigMap; nothing where there is none."""
    for config_map in snapshot.all(CONFIG_MAPS):
        if (config_map["metadata"]["namespace"], config_map["metadata"]["name"]) == (namespace, name):
            return config_map.get("data") or {}
    return {}


def credential(secrets: Mapping[tuple[str, str], Secret], namespace: str, name: str, *, roots: bool) -> Secret | None:
    """The Secret behind a credential's name, as a server or whose CA certificates are meant (`roots`)."""
    found = secrets.get((namespace, name))
    return found or (secrets.get((namespace, name.removesuffix("-cacert"))) if roots else None)


def _certificate(chain: str, key: str) -> Json:
    return {"tls_certificate": {"certificate_chain": _inline(chain), "private_key": _inline(key)}}


def _inline(text: str) -> Json:
    # As Istio's agent gives them, so that what reads an Envoy's dump finds certificates where it looks for them.
    return {"inline_bytes": base64.b64encode(text.encode()).decode()}


def _trusted(roots: str, revoked: str = "") -> Json:
    context: Json = {"trusted_ca": _inline(roots)}
    if revoked:
        context["crl"] = _inline(revoked)
    return {"validation_context": context}


def system_roots() -> str:
    """The certificates of the authorities that this machine trusts, as text; "" where it has none."""
    return next((Path(path).read_text() for path in _SYSTEM_ROOTS if Path(path).exists()), "")
