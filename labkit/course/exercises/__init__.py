# SPDX-License-Identifier: Apache-2.0
"""The exercises of the lessons that steer the mesh: one module a lesson, named as the lesson is without its number.

Each has a tuple `EXERCISES` of `Exercise`. What a learner did is judged by what the mesh then does.
"""

from labkit.course.exercise import Exercise

__all__ = ["Exercise"]
