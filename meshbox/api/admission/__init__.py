# SPDX-License-Identifier: Apache-2.0
"""Admission of users' own: webhooks that are called, and policies in CEL. The mesh's webhooks are the mesh's."""
