# SPDX-License-Identifier: Apache-2.0
"""The course: lessons with what they need and claim, progress, and the runner that plays them headless."""

from labkit.choice import Choice, choose, chosen
from labkit.course.checks import Check, Checklist
from labkit.course.lesson import Lesson, begin
from labkit.course.preflight import preflight
from labkit.course.progress import LESSONS, Progress, lessons
from labkit.course.stages import STAGES, catch_up
from labkit.course.translations import speak

__all__ = [
    "LESSONS",
    "STAGES",
    "Check",
    "Checklist",
    "Choice",
    "Lesson",
    "Progress",
    "begin",
    "catch_up",
    "choose",
    "chosen",
    "lessons",
    "preflight",
    "speak",
]
