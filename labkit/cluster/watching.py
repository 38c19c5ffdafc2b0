# SPDX-License-Identifier: Apache-2.0
"""Beside every kubectl command of a lesson: what it makes is marked as the course's, and what is others' is left alone.

The command that is shown is the command that is run. So the mark is put on afterwards, by a patch of metadata
(of the object itself: no pod's template changes, no pod starts again). What a command is about to make is written down
before; if we are killed in between, `look` puts the mark on the next time.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from labkit.cluster import record as records
from labkit.cluster.listing import COURSE, LABELS_BEFORE, LESSON, RUN, WORKSHOP, Thing, listing, things
from labkit.cluster.objects import connected, get, patch
from labkit.cluster.ownership import Key, Ownership
from labkit.cluster.running import kubectl
from labkit.cluster.snapshots import Snapshot
from labkit.cluster.target import Chosen, current
from labkit.cluster.words import Command
from labkit.ground.errors import ClusterError

__all__ = [
    "Watch",
    "course_folder",
    "in_lesson",
    "labels_before",
    "look",
    "marking_shell",
    "refuse",
    "snapshot_file",
    "unwatched",
    "watch",
]

_MADE = re.compile(r"^(?P<resource>[a-z][a-z0-9.-]*)/(?P<name>\S+) (?:created|serverside-applied)$", re.MULTILINE)
SUFFIXES = (".yaml", ".yml", ".json")
_MAKES = {"apply", "create", "run", "expose", "replace"}
_ELSEWHERE = 'Choose another cluster, or TARGET = "sandbox".'

_SHELL_MAKES = re.compile(r"\bkubectl\b.*\b(?:apply|create|run|expose|replace)\b", re.DOTALL)
_LONGEST = 900.0
"""Seconds within which an interrupted command has made what it made; a later object of that name is somebody else's."""

_off = ContextVar("off", default=False)
_lesson = ""


def in_lesson(name: str) -> None:
    """What is made from now on is made in lesson `name`."""
    global _lesson
    _lesson = name


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Commands in here are our own: what they do was decided already."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)


def course_folder() -> Path:
    """Where the course keeps what it knows of the cluster in use."""
    return records.folder(current())


def snapshot_file(place: Path) -> Path:
    """Where the snapshot from before the course lies, in the folder of what is known of a cluster."""
    return place / "before.json"


def look(named: Collection[Key] = (), *, settle: bool = True) -> Ownership:
    """All objects of the cluster in use, and what tells whose they are.

    Args:
        named: Objects that count as the course's in a sandbox of which no snapshot was kept.
        settle: Whether to mark first what an interrupted command had made; it writes to the cluster.

    Raises:
        ClusterError: The cluster does not answer, or what was written down of it cannot be read.
    """
    target = current()
    uid, place = target.uid, records.folder(target)
    there = listing()
    record = records.load(place, uid)
    if record is not None and record.pending and settle:
        for one in record.pending:
            _mark([t for t in there if _may_be(t, one, record.run)], place, uid, one.lesson)
        with records.changing(place, uid) as changed:
            changed.pending = [one for one in changed.pending if one not in record.pending]
        there, record = listing(), records.load(place, uid)
    before = None
    if (file := snapshot_file(place)).exists():
        before = frozenset((e.kind, e.namespace, e.name) for e in Snapshot.load(file, uid).entries)
    return Ownership(there, record, before, records.is_sandbox(target), frozenset(named), uid)


def _may_be(thing: Thing, pending: records.Pending, run: str) -> bool:
    # Killed between the mark and the record, it carries our mark already. A creationTimestamp has whole seconds.
    fits = thing.key in pending.objects and (not thing.course or thing.run == run)
    return fits and math.floor(pending.at) <= records.since(thing.created) <= pending.at + _LONGEST


def refuse(theirs: Sequence[Thing], what: str, next_step: str = _ELSEWHERE) -> ClusterError:
    """The error for a command that would touch objects of somebody else's."""
    told = "\n".join(f"  {thing}, {thing.origin}" for thing in theirs[:8])
    more = f"\n  … and {len(theirs) - 8} more" if len(theirs) > 8 else ""
    return ClusterError(f"{what}; nothing was changed. The course did not make:\n{told}{more}", next_step=next_step)


def _mark(made: Sequence[Thing], place: Path, uid: str, lesson: str) -> None:
    if not made:
        return
    with records.changing(place, uid) as record:
        marks = {"labels": {COURSE: WORKSHOP}, "annotations": {RUN: record.run, LESSON: lesson}}
        # What is gone by now needs no mark.
        patch(marks, *((thing.resource, thing.namespace, thing.name) for thing in made), gone=True)
        record.made.update({thing.uid: str(thing) for thing in made})


@dataclass(frozen=True)
class Watch:
    """One command that makes objects, from before it runs until it has ended.

    Args:
        command: The command.
        target: The cluster.
        documents: The objects that its files hold, by kind, namespace and name.
        namespace: Where objects without a namespace go.
        labels: Labels of the namespace that it labels, from before; None if it labels none, or one of the course's own.
        begun: When it began, in seconds since 1970.
    """

    command: Command
    target: Chosen
    documents: frozenset[Key] = frozenset()
    namespace: str = ""
    labels: dict[str, str] | None = None
    begun: float = field(default_factory=time.time)

    def ended(self, said: str) -> None:
        """Mark what it says that it made."""
        if self.labels is not None:
            _remember_labels(self.command.labelled, self.labels, self.target)
            return
        made = {(match["resource"], match["name"]) for match in _MADE.finditer(said)}
        if made or (self.command.formatted and self.documents):
            # Where the caller asked for a format it does not say: what came of its files while it ran is what it made.
            kinds = [] if self.command.formatted else sorted({resource for resource, _name in made})
            came = [thing for thing in listing(kinds) if self._made(thing, made)]
            _mark(came, records.folder(self.target), self.target.uid, _lesson)
        if self.documents:
            with records.changing(records.folder(self.target), self.target.uid) as record:
                record.pending = [one for one in record.pending if one.objects != self.documents]

    def _made(self, thing: Thing, made: set[tuple[str, str]]) -> bool:
        if self.command.formatted and thing.key in self.documents:
            return records.since(thing.created) >= math.floor(self.begun)
        if (thing.resource, thing.name) not in made:
            return False
        same = {key for key in self.documents if (key[0], key[2]) == (thing.kind, thing.name)}
        return thing.key in same if same else thing.namespace in ("", self.namespace)


def watch(words: Sequence[str], stdin: str | None) -> Watch | None:
    """What has to be done beside a command on the cluster in use; None if it makes and deletes nothing.

    Raises:
        ClusterError: It would change or delete objects that the course did not make.
    """
    command = Command(tuple(words))
    if _off.get() or command.tries_only:
        return None
    if command.unforeseen and command.verb in ("delete", *_MAKES) and not records.is_sandbox(current()):
        raise ClusterError(
            f"`{command.unforeseen}` reaches objects that the command does not name, whoever made them; nothing was"
            " changed",
            next_step="Leave it out, and name what is yours.",
        )
    if command.verb == "delete":
        _may_delete(command, stdin)
        return None
    if command.labelled:
        return _labelling(command)
    if command.verb not in _MAKES:
        return None
    target = current()
    default = command.namespace or connected().namespace
    documents = frozenset(_documents(command, stdin, default))
    if not records.is_sandbox(target) and (theirs := _in_the_way(command, documents)):
        raise refuse(theirs, f"`kubectl {command.verb}` would change what is somebody else's")
    if documents:
        records.expect(records.folder(target), target.uid, _lesson, documents)
    return Watch(command, target, documents, default)


def _in_the_way(command: Command, documents: frozenset[Key]) -> list[Thing]:
    """What is somebody else's of the objects that a command would make."""
    known = look()
    theirs = known.in_the_way(documents)
    if command.unread:
        # Only kubectl knows what is in them.
        there = _selected(command)
        theirs += [thing for thing in there if thing not in theirs and not known.why(thing)]
    return theirs


def _documents(command: Command, stdin: str | None, namespace: str) -> Iterator[Key]:
    """The objects in the files of a command, as far as they are files; those that are no manifests kubectl refuses."""
    if command.verb == "create" and command.about[:1] in (["namespace"], ["ns"]):
        yield from (("Namespace", "", name) for name in command.about[1:])
    texts = [stdin or ""] if "-" in command.files else []
    for name in command.files:
        path = Path(name)
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        texts += [one.read_text(errors="replace") for one in inside if one.is_file() and one.suffix in SUFFIXES]
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for text in texts:
        with contextlib.suppress(yaml.YAMLError):
            for document in yaml.load_all(text, Loader=loader):
                yield from _keys(document, namespace)


def _keys(document: object, namespace: str) -> Iterator[Key]:
    if not isinstance(document, dict):
        return
    if isinstance(items := document.get("items"), list) and str(document.get("kind", "")).endswith("List"):
        for item in items:
            yield from _keys(item, namespace)
        return
    metadata = document.get("metadata")
    if isinstance(metadata, dict) and isinstance(name := metadata.get("name"), str):
        kind = str(document.get("kind", ""))
        yield kind, str(metadata.get("namespace") or namespace), name
        # Whether a kind has namespaces the file does not say.
        if not metadata.get("namespace"):
            yield kind, "", name


def _selected(command: Command, stdin: str | None = None) -> list[Thing]:
    """What is there of the objects that a command names: in a file or by a selector, only kubectl knows which."""
    said = kubectl(["get", *command.selection, "--ignore-not-found", "-o", "json"], stdin=stdin)
    answer = json.loads(said) if said.strip() else {"items": []}
    return things(answer.get("items", [answer]))


def _may_delete(command: Command, stdin: str | None) -> None:
    """Refuse a `delete` that would take what the course did not make."""
    if records.is_sandbox(current()) or not command.selection:
        return
    chosen = _selected(command, stdin)
    if not chosen:
        return
    known = look()
    if known.before is None:
        raise ClusterError(
            "no snapshot of this cluster was kept, so that nothing is deleted here",
            next_step="00-kubernetes takes one before anything is installed. `kubectl get all -A -l labkit.dev/course`"
            " shows what may be the course's; delete it by hand in a terminal.",
        )
    theirs = [thing for thing in chosen if not known.why(thing)]
    for thing in chosen:
        if thing.kind == "Namespace":
            theirs += known.keeping(thing.name)
        if thing.kind == "CustomResourceDefinition":
            theirs += known.of_kind(thing)
    if theirs:
        raise refuse(theirs, "`kubectl delete` would delete what is somebody else's", "Name only what is yours.")


def _labelling(command: Command) -> Watch | None:
    found, target = get("namespaces", command.labelled), current()
    if not found:
        return None
    metadata = found[0]["metadata"]
    record = records.load(records.folder(target), target.uid)
    # Another reader's namespace carries the label too.
    if metadata.get("labels", {}).get(COURSE) == WORKSHOP and record and metadata.get("uid") in record.made:
        return None
    return Watch(command, target, labels=metadata.get("labels", {}))


def _remember_labels(name: str, before: dict[str, str], target: Chosen) -> None:
    metadata = get("namespaces", name)[0]["metadata"]
    labels = metadata.get("labels", {})
    kept = labels_before(metadata.get("annotations", {}).get(LABELS_BEFORE, ""))
    for key in {*before, *labels}:
        if before.get(key) != labels.get(key):
            first = kept[key][0] if key in kept else before.get(key)
            kept[key] = first, labels.get(key)
    if not kept:
        return
    with records.changing(records.folder(target), target.uid) as record:
        notes = {LABELS_BEFORE: json.dumps(kept, sort_keys=True), RUN: record.run}
        patch({"annotations": notes}, ("namespaces", "", name))


def labels_before(note: str) -> dict[str, tuple[str | None, str | None]]:
    """What the annotation `LABELS_BEFORE` says: of each label its value before, and the one that the course gave it."""
    try:
        return {str(key): (old, new) for key, (old, new) in json.loads(note).items()} if note else {}
    except (ValueError, TypeError, AttributeError):
        return {}


@contextlib.contextmanager
def marking_shell(script: str) -> Iterator[Callable[[str], None]]:
    """Beside shell lines: marks what they say they made, if it was not there before. Yields who wants their output."""
    if not _SHELL_MAKES.search(script) or _off.get():
        yield lambda said: None
        return
    target, before = current(), {thing.uid for thing in listing()}

    def ended(said: str) -> None:
        made = {(match["resource"], match["name"]) for match in _MADE.finditer(said)}
        if made:
            came = [t for t in listing() if t.uid not in before and (t.resource, t.name) in made]
            _mark(came, records.folder(target), target.uid, _lesson)

    yield ended
