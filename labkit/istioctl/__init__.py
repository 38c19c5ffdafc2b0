# SPDX-License-Identifier: Apache-2.0
"""`istioctl`, as far as lessons need it: the workshop's own, in the words of Istio 1.30's, a file a command.

It looks and never installs; what it does not do it refuses, and says so. A genuine istioctl that is on the PATH is run
in its place.
"""
