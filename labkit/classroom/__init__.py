# SPDX-License-Identifier: Apache-2.0
"""A class: who is how far, and seats for everybody on one machine."""
