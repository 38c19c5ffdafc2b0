# SPDX-License-Identifier: Apache-2.0
"""TLS at a listener: the Secrets and ConfigMaps it names, whether it may, and the settings of Istio's own server."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from msgspec import Struct, field

from meshbox.contracts import View
from meshbox.mesh import cipher_suites
from meshbox.mesh.gateway_api.grants import permitted
from meshbox.mesh.gateway_api.status import Condition

if TYPE_CHECKING:
    from labkit.ground.typed.hosts import ServerTLS

__all__ = ["Around", "Owner", "idle_options", "server_tls", "without_root"]

Names = tuple[str, str]

_TERMINATION = "gateway.istio.io/tls-terminate-mode"
"""The option of a listener that asks for clients' certificates, or for the mesh's own."""

_CIPHERS = "gateway.istio.io/tls-cipher-suites"
_PROTOCOL = "gateway.istio.io/listener-protocol"
_OWN = ("ISTIO_MUTUAL", "ISTIO_SIMPLE")
"""What shows the mesh's own certificates."""

_CLIENTS = ("MUTUAL", "OPTIONAL_MUTUAL")

_NETWORK, _GATEWAY_PORT = "topology.istio.io/network", "networking.istio.io/gatewayPort"
"""Labels of a Gateway between networks: which one is behind it, and at which port others come for its Services."""

_PAIRS = (("cert", "key"), ("tls.crt", "tls.key"))
_ROOTS = ("cacert", "ca.crt")


class Around(Struct, frozen=True):
    """What Gateways look at besides themselves.

    Args:
        grants: The ReferenceGrants.
        secrets: Secrets by namespace and name.
        config_maps: ConfigMaps likewise.
        namespaces: The labels of each namespace.
    """

    grants: Sequence[View] = ()
    secrets: Mapping[Names, View] = field(default_factory=dict)
    config_maps: Mapping[Names, View] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Owner(Struct, frozen=True):
    """Whose a listener is.

    Args:
        kind: "Gateway", or "ListenerSet" where it adds the listener to a Gateway.
        meta: Its metadata: what it names without a namespace is in its own.
        gateway: The `spec` of the Gateway.
    """

    kind: str
    meta: View
    gateway: View

    @property
    def namespace(self) -> str:
        """Its namespace."""
        found: str = self.meta["namespace"]
        return found


class _RefusedError(Exception):
    """A reference that cannot be followed; becomes the listener's condition."""

    def __init__(self, message: str, reason: str = "InvalidCertificateRef") -> None:
        super().__init__(message)
        self.condition = Condition("ResolvedRefs", reason, message, status=False)


def server_tls(owner: Owner, listener: View, around: Around) -> tuple[ServerTLS | None, Condition | None]:
    """The TLS settings of the server that plays a listener, or the condition that says why there are none.

    Args:
        owner: Whose listener it is.
        listener: The listener.
        around: What it may name.
    """
    tls = listener.get("tls")
    if not tls:
        return None, None
    if tls.get("mode") == "Passthrough":
        return {"mode": "AUTO_PASSTHROUGH" if _between_networks(owner, listener) else "PASSTHROUGH"}, None
    try:
        made = _terminated(owner, listener, tls, around)
    except _RefusedError as refused:
        return None, refused.condition
    # Istio leaves the option out where TLS is the mesh's own.
    suites = _option_suites(tls.get("options") or {})
    if suites and not _is_own(made):
        made["cipherSuites"] = suites
    return made, None


def idle_options(listener: View) -> Iterator[tuple[str, str]]:
    """The options of a listener's TLS of which Istio makes nothing, or not all, and why.

    Args:
        listener: The listener.
    """
    options = (listener.get("tls") or {}).get("options") or {}
    for name in options:
        if name not in (_TERMINATION, _CIPHERS, _PROTOCOL):
            yield name, "Istio knows no such option"
    if options.get(_CIPHERS) and options.get(_TERMINATION) in _OWN:
        yield _CIPHERS, f"Istio leaves it out where {_TERMINATION} is {options[_TERMINATION]}"
    elif strange := cipher_suites.unknown(_option_suites(options)):
        yield _CIPHERS, f"Istio leaves out {', '.join(strange)}, which Envoy does not know"


def _option_suites(options: Mapping[str, str]) -> list[str]:
    return [suite.strip() for suite in options[_CIPHERS].split(",")] if options.get(_CIPHERS) else []


def _is_own(tls: ServerTLS) -> bool:
    return tls.get("mode") == "ISTIO_MUTUAL" or tls.get("credentialName") == "builtin://"


def _between_networks(owner: Owner, listener: View) -> bool:
    """Whether a listener leads to each Service by the name that sidecars give it."""
    if (listener["tls"].get("options") or {}).get(_PROTOCOL) == "auto-passthrough":
        return True
    labels = owner.meta.get("labels") or {}
    return _NETWORK in labels and str(listener["port"]) == labels.get(_GATEWAY_PORT, "15443")


def _terminated(owner: Owner, listener: View, tls: View, around: Around) -> ServerTLS:
    wanted = (tls.get("options") or {}).get(_TERMINATION, "")
    if wanted == "ISTIO_MUTUAL":
        return {"mode": "ISTIO_MUTUAL"}
    if wanted == "ISTIO_SIMPLE":
        return {"mode": "SIMPLE", "credentialName": "builtin://"}
    references = tls.get("certificateRefs") or []
    if len(references) > 2:
        raise _RefusedError("TLS mode can only support up to 2 server certificates")
    names: list[str] = []
    problems: list[_RefusedError] = []
    for reference in references:
        try:
            names.append(_certificate(owner, reference, around))
        except _RefusedError as refused:
            problems.append(refused)
    if not names:
        raise _joined(problems) if problems else _RefusedError("no certificateRefs are given")
    mode = wanted if wanted in _CLIENTS else "SIMPLE"
    made: ServerTLS = {"mode": mode}
    if len(names) == 1:
        made["credentialName"] = names[0]
    else:
        made["credentialNames"] = names
    validation = _validation(owner.gateway, int(listener["port"]))
    if validation:
        made["caCertCredentialName"] = _authority(owner, validation, around)
        # Istio does not know the validation's own mode; only its option lets in who shows no certificate.
        made["mode"] = mode if wanted in _CLIENTS else "MUTUAL"
    return made


def _joined(problems: list[_RefusedError]) -> _RefusedError:
    return _RefusedError("; ".join(str(one) for one in problems), problems[0].condition.reason)


def _written(reference: View) -> str:
    """A reference as Istio writes it in messages."""
    group, kind = reference.get("group") or "", reference.get("kind") or ""
    return f"{group}/{kind}/{reference['name']}.{reference.get('namespace') or ''}"


def _place(owner: Owner, reference: View) -> Names:
    return reference.get("namespace") or owner.namespace, reference["name"]


def _may(owner: Owner, kind: str, place: Names, around: Around) -> bool:
    return permitted(around.grants, owner.kind, owner.namespace, kind, *place)


def _certificate(owner: Owner, reference: View, around: Around) -> str:
    """The credential that a `certificateRefs` entry names, once it is known to be usable."""
    if (reference.get("group") or "", reference.get("kind") or "Secret") != ("", "Secret"):
        raise _RefusedError(f"invalid certificate reference {_written(reference)}, only secret is allowed")
    namespace, name = place = _place(owner, reference)
    if not _may(owner, "Secret", place, around):
        # Before anything is said of the Secret: whether it is there is not this namespace's business.
        raise _RefusedError(
            f'certificateRef {name}/{namespace} not accessible to a Gateway in namespace "{owner.namespace}"'
            " (missing a ReferenceGrant?)",
            "RefNotPermitted",
        )
    secret = around.secrets.get(place)
    invalid = f"invalid certificate reference {_written(reference)}"
    if secret is None:
        raise _RefusedError(f"{invalid}, secret {namespace}/{name} not found")
    pair = _pair(secret.get("data") or {}, invalid)
    if problem := _pair_problem(*pair):
        raise _RefusedError(f"{invalid}, the certificate is malformed: {problem}")
    return f"kubernetes-gateway://{namespace}/{name}"


def _pair(data: Mapping[str, str], invalid: str) -> tuple[bytes, bytes]:
    for certificate, key in _PAIRS:
        if data.get(certificate) and data.get(key):
            return _decoded(data[certificate]), _decoded(data[key])
    for certificate, key in _PAIRS:
        if certificate in data and key in data:
            raise _RefusedError(f'{invalid}, found keys "{certificate}" and "{key}", but they were empty')
    found = ", ".join(sorted(data))
    raise _RefusedError(
        f"{invalid}, found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key);"
        f" found: {found}"
    )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _pair_problem(certificate: bytes, key: bytes) -> str:
    """What Go says of a pair that is none; "" where it is one."""
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        return "tls: failed to find any PEM data in certificate input"
    if b"-----BEGIN" not in key:
        return "tls: failed to find any PEM data in key input"
    try:
        public = load_pem_x509_certificates(certificate)[0].public_key()
    except ValueError:
        return "x509: malformed certificate"
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError):
        return "tls: failed to parse private key"
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if public.public_bytes(*form) != private.public_key().public_bytes(*form):
        return "tls: private key does not match public key"
    return ""


def _validation(gateway_spec: View, port: int) -> View:
    """Who may call at a port: `spec.tls.frontend`, the port's own part before the default."""
    frontend = (gateway_spec.get("tls") or {}).get("frontend") or {}
    for entry in frontend.get("perPort") or []:
        if int(entry["port"]) == port:
            own: View = (entry.get("tls") or {}).get("validation") or {}
            return own
    default: View = (frontend.get("default") or {}).get("validation") or {}
    return default


def _authority(owner: Owner, validation: View, around: Around) -> str:
    """The credential that holds whom clients' certificates may be of."""
    references = validation["caCertificateRefs"]
    if len(references) > 1:
        raise _RefusedError("only one caCertificateRef is supported")
    reference = references[0]
    invalid = f"invalid CA certificate reference {_written(reference)}"
    namespace, name = place = _place(owner, reference)
    kind = reference["kind"] if not reference.get("group") else ""
    if kind not in ("ConfigMap", "Secret"):
        raise _RefusedError(f"{invalid}, only secret and configmap are allowed")
    if not _may(owner, kind, place, around):
        raise _RefusedError(
            f'caCertificateRef {namespace}/{name} not accessible to a Gateway in namespace "{owner.namespace}"'
            " (missing a ReferenceGrant?)",
            "RefNotPermitted",
        )
    found = (around.secrets if kind == "Secret" else around.config_maps).get(place)
    if found is None:
        raise _RefusedError(f"{invalid}, {kind.lower()} {namespace}/{name} not found")
    data = found.get("data") or {}
    if problem := without_root(data):
        raise _RefusedError(f"{invalid}, {problem}")
    root = next(data[key] for key in _ROOTS if data.get(key))
    text = _decoded(root) if kind == "Secret" else root.encode()
    if b"-----BEGIN CERTIFICATE-----" not in text:
        raise _RefusedError(f"{invalid}, the bundle is malformed")
    return f"{'kubernetes-gateway' if kind == 'Secret' else 'configmap'}://{namespace}/{name}"


def without_root(data: Mapping[str, str]) -> str:
    """Why the data of a ConfigMap or Secret hold no CA, in Istio's words; "" where they do."""
    if any(data.get(key) for key in _ROOTS):
        return ""
    if empty := next((key for key in _ROOTS if key in data), None):
        return f'found key "{empty}", but it was empty'
    found = sorted(data)
    listed = ", ".join(found) if len(found) < 3 else f"{', '.join(found[:3])}, and {len(found) - 3} more..."
    return f"found secret, but didn't have expected keys cacert or ca.crt; found: {listed}"
