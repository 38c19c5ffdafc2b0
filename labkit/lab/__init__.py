# SPDX-License-Identifier: Apache-2.0
"""JupyterLab as a learner opens it: a copy of the notebooks to play in, the start page, the command `labkit lab`."""
