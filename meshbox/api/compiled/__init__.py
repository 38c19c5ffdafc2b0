# SPDX-License-Identifier: Apache-2.0
"""Rules that compile what they check: the schemas of CustomResourceDefinitions, and CEL expressions."""

from meshbox.api.compiled import definition, expressions

__all__ = ["definition", "expressions"]
