# SPDX-License-Identifier: Apache-2.0
"""gRPC with the standard library alone, as pods' programs have no more: HTTP/2 as far as single calls need it."""
