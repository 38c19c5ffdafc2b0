# SPDX-License-Identifier: Apache-2.0
"""Istio's sample server of keys: those of issuer testing@secure.istio.io, whose tokens its samples publish."""

from __future__ import annotations

import json
import sys

from labkit.ground.web import Request, Response, serve

__all__ = ["answer", "main"]

KEYS = {
    "keys": [
        {
            "e": "AQAB",
            "kid": "DHFbpoIUqrY8t2zpA2qXfCmr5VO5ZEr4RzHU_-envvQ",
            "kty": "RSA",
            "n": (
                "xAE7eB6qugXyCAG3yhh7pkDkT65pHymX-P7KfIupjf59vsdo91bSP9C8H07pSAGQO1MV_xFj9VswgsCg4R6otmg5PV2He95lZdHtOc"
                "U5DXIg_pbhLdKXbi66GlVeK6ABZOUW3WYtnNHD-91gVuoeJT_DwtGGcp4ignkgXfkiEm4sw-4sfb4qdt5oLbyVpmW6x9cfa7vs2WTf"
                "URiCrBoUqgBo_-4WTiULmmHSGZHOjzwa8WtrtOQGsAFjIbno85jp6MnGGGZPYZbDAa_b3y5u-YpW7ypZrvD8BgtKVjgtQgZhLAGezM"
                "t0ua3DRrWnKqTZ0BJ_EyxOGuHJrLsn00fnMQ"
            ),
        }
    ]
}
"""The public key that Istio publishes with its samples; a tool for tests, whose other half is published as well."""


def answer(request: Request) -> Response:
    """The keys, whatever is asked for."""
    print(f"{request.method} {request.target}", flush=True)
    return Response(200, json.dumps(KEYS), content_type="application/json")


def main() -> int:
    """The program: port 8000, or what -http says."""
    port = "8000"
    for flag, value in zip(sys.argv, sys.argv[1:], strict=False):
        if flag.lstrip("-") == "http":
            port = value
    if not port.isdigit():
        print(f"invalid port {port!r}", file=sys.stderr)
        return 1
    print(f"the workshop's stand-in for Istio's jwt-server: keys at port {port}, path /jwks", flush=True)
    return serve({int(port): answer})
