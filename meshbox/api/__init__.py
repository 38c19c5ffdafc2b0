# SPDX-License-Identifier: Apache-2.0
"""sandbox/api"""
