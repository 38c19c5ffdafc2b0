# SPDX-License-Identifier: Apache-2.0
"""Envoy's own configuration: asked for, read, compared, explained, and followed as Envoy follows it."""
