# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tests.cluster.conftest import kubectl
from tests.shops import pytest_runtest_teardown, shared_shop, shop_release

__all__ = ["kubectl", "pytest_runtest_teardown", "shared_shop", "shop_release"]
