# SPDX-License-Identifier: Apache-2.0
"""The CORS filter of an HTTPRoute as Istio's own policy."""

from __future__ import annotations

from .test_gateway_api_rules import played

ANY_ORIGIN = r"^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s?#]+$"


def test_cors() -> None:
    asked = {
        "allowOrigins": ["https://a.b", "https://*.c.d", "*"],
        "allowMethods": ["GET"],
        "allowHeaders": ["x-a"],
        "exposeHeaders": ["x-b"],
        "allowCredentials": True,
        "maxAge": 7,
    }
    assert played({"type": "CORS", "cors": asked})["corsPolicy"] == {
        "allowOrigins": [{"exact": "https://a.b"}, {"regex": r"https://.*\.c\.d"}, {"regex": ANY_ORIGIN}],
        "allowMethods": ["GET"],
        "allowHeaders": ["x-a"],
        "exposeHeaders": ["x-b"],
        "allowCredentials": True,
        "maxAge": "7s",
        "unmatchedPreflights": "IGNORE",
    }
