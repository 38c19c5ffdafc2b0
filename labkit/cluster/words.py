# SPDX-License-Identifier: Apache-2.0
"""What a kubectl command is about, read from its words: its verb, its files, its namespace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

__all__ = ["Command"]

# Flags that kubectl's verbs for making and deleting have, and whose value is the next word.
_WITH_VALUE = {
    "-n", "--namespace", "-f", "--filename", "-k", "--kustomize", "-l", "--selector", "-o", "--output", "-p", "--patch",
    "--type", "--field-selector", "--timeout", "--image", "--replicas", "--port", "--context", "--kubeconfig",
    "--field-manager", "--grace-period", "--target-port", "--name", "--overrides", "--env", "--labels",
    "--annotations", "--from-literal", "--from-file", "--restart", "--protocol", "--schedule", "--server",
    "--user", "--cluster", "--as", "--token", "--request-timeout", "-s", "-v", "-c", "--serviceaccount", "--verb",
    "--resource",
    "--clusterrole", "--role", "--from", "--cert", "--key", "--docker-server", "--docker-username", "--docker-password",
    "--external-ip", "--load-balancer-ip", "--generator", "--rule", "--class", "--default-backend", "--annotation",
    "--hard", "--value", "--audience", "--duration", "--raw", "--as-group", "--as-uid", "--as-user-extra",
    "--cache-dir", "--certificate-authority", "--client-certificate", "--client-key", "--tls-server-name",
    "--username", "--password", "--profile", "--profile-output", "--kuberc", "--log-flush-frequency",
}  # fmt: skip
# Of a `delete`, what says which objects; `get` takes the same.
_SELECTS = {"-n", "--namespace", "-f", "--filename", "-k", "--kustomize", "-l", "--selector", "--field-selector"}
_SELECTS_ALONE = {"-A", "--all-namespaces", "-R", "--recursive"}

_IN_EARNEST = ("none", "false", "f", "0")
_UNFORESEEN = ("--prune", "--raw")
_ELSEWHERE = ("--kubeconfig", "--context", "--cluster", "--server", "-s")


@dataclass(frozen=True)
class Command:
    """The words of a command, without "kubectl"."""

    words: tuple[str, ...]

    @cached_property
    def _read(self) -> tuple[list[str], list[tuple[str, str]]]:
        """What stands for itself, and flags with their values."""
        plain: list[str] = []
        flags: list[tuple[str, str]] = []
        rest = list(self.words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                # For most verbs it is what a container is to run.
                if plain[:1] in ([], ["delete"]):
                    plain += rest
                break
            if not word.startswith("-") or word == "-":
                plain.append(word)
            elif word in _WITH_VALUE and rest:
                flags.append((word, rest.pop(0)))
            elif not word.startswith("--") and len(word) > 2 and word[:2] in _WITH_VALUE:
                flags.append((word[:2], word[2:].removeprefix("=")))
            elif "=" in word:
                name, _, value = word.partition("=")
                flags.append((name, value))
            else:
                flags.append((word, ""))
        return plain, flags

    @property
    def verb(self) -> str:
        """Its verb; "" without one."""
        return self._read[0][0] if self._read[0] else ""

    @property
    def about(self) -> list[str]:
        """What follows the verb and is no flag."""
        return self._read[0][1:]

    def values(self, *names: str) -> list[str]:
        """The values of a flag, by all its names."""
        return [value for name, value in self._read[1] if name in names]

    @property
    def files(self) -> list[str]:
        """What `-f` names."""
        return [part for value in self.values("-f", "--filename") for part in value.split(",")]

    @property
    def namespace(self) -> str:
        """What `-n` names; "" without."""
        return (self.values("-n", "--namespace") or [""])[-1]

    @property
    def tries_only(self) -> bool:
        """Whether it changes nothing."""
        # The last one counts, and kubectl still takes what once was a switch.
        tried = self.values("--dry-run")[-1:]
        return any(value.lower() not in _IN_EARNEST for value in tried) or bool(self.values("-h", "--help"))

    @property
    def unread(self) -> bool:
        """Whether it takes objects from where only kubectl looks: URLs, patterns, whole trees, kustomizations."""
        odd = any("://" in name or set(name) & set("*?[") for name in self.files)
        return odd or bool(self.values("-k", "--kustomize", "-R", "--recursive"))

    @property
    def unforeseen(self) -> str:
        """A flag by which it changes or deletes objects that it does not name; "" without."""
        return next((name for name, value in self._read[1] if name in _UNFORESEEN and value not in _IN_EARNEST), "")

    @property
    def elsewhere(self) -> list[str]:
        """The flags that lead to another cluster than the one in use; a context may be the same by its name."""
        return [f"{name}={value}" for name, value in self._read[1] if name in _ELSEWHERE and self.verb != "config"]

    @property
    def formatted(self) -> bool:
        """Whether it prints objects in a format of the caller's, and so does not say what it did."""
        return bool(self.values("-o", "--output"))

    @property
    def labelled(self) -> str:
        """The namespace whose labels it changes; "" if it does not."""
        if self.verb != "label" or not self.about:
            return ""
        kind, _, name = self.about[0].partition("/")
        if kind not in ("namespace", "namespaces", "ns"):
            return ""
        return name or (self.about[1] if len(self.about) > 1 else "")

    @property
    def selection(self) -> list[str]:
        """Of a `delete`, the words with which `get` finds the same objects."""
        words = list(self.about)
        for name, value in self._read[1]:
            if name in _SELECTS:
                words += [name, value]
            elif name in _SELECTS_ALONE:
                words.append(name)
        return words
