# SPDX-License-Identifier: Apache-2.0
"""Structural schemas of CustomResourceDefinitions: what they prune, default and refuse, in the API server's words."""
