# SPDX-License-Identifier: MIT
"""What watch= names, as the daemon has it: patterns in a list, and in a file of settings.

A character that would mean something there, in the path of a project or in a name, is one that may be any.

PYTEST_DONT_REWRITE: a warm interpreter has it before pytest.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from typing import FrozenSet, Iterable, Iterator, List

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@~")
_WILD = _PLAIN | frozenset("*?[]!^\\")
_DIRECTORIES_MAX = 200  # for one pattern; of more than that everything is watched


def _of_these(text: str, known: FrozenSet[str]) -> str:
    return "".join(c if c in known else "?" * len(os.fsencode(c)) for c in text)


def literal(path: str) -> str:
    """Of this path, and of those that differ in its odd characters."""
    return _of_these(path, _PLAIN)


def _pattern(root: str, words: str) -> str:
    own = _of_these(re.sub(r"\*\*+", "*", words), _WILD)
    return own if os.path.isabs(words) else os.path.join(literal(root), own)


def _in_directories(root: str, base: str, rest: str) -> Iterator[str]:
    """`base`/**/`rest`: in each directory that has something of that kind now, and where it begins."""
    everything = _pattern(root, base) if base else literal(root)
    if not rest:
        yield everything
        return
    found: List[str] = []
    for directory in glob.iglob(os.path.join(glob.escape(root), base, "**", ""), recursive=True):
        if next(glob.iglob(os.path.join(glob.escape(directory), rest), recursive=True), None) is not None:
            found += _all_of(directory, rest)
        if len(found) > _DIRECTORIES_MAX:
            yield everything
            return
    yield from found
    yield from _all_of(root, os.path.join(base, rest))


def _all_of(root: str, words: str) -> Iterator[str]:
    parts = words.split("/")
    if "**" in parts:
        at = parts.index("**")
        yield from _in_directories(root, "/".join(parts[:at]) or ("/" if at and not parts[0] else ""), "/".join(parts[at + 1:]))
        return
    yield _pattern(root, words)
    # One that has brackets in its name is meant, too.
    if os.path.lexists(os.path.join(root, words)):
        yield literal(os.path.join(root, words))


def of(root: str, watch: Iterable[str]) -> List[str]:
    """In an order of their own: a definition that has changed is built again."""
    return sorted({p for w in watch for p in _all_of(root, os.fspath(w))})


def named(pattern: str) -> List[str]:
    """What there is of one that of() gave."""
    found = ["/"]
    for part in re.sub(r"\\.", "?", pattern).replace("[^", "[!").strip("/").split("/"):
        if re.search(r"[*?[]", part):
            names = [(at, name) for at in found if os.path.isdir(at) for name in os.listdir(at)
                     if fnmatch.fnmatchcase(name, part) and name.startswith(".") <= part.startswith(".")]
        else:
            names = [(at, part) for at in found]
        found = [path for path in (os.path.join(at, name) for at, name in names) if os.path.lexists(path)]
    return found


def unmatched(root: str, watch: Iterable[str]) -> List[str]:
    """Those that name nothing that there is."""
    return [words for words in map(os.fspath, watch) if "\\" not in words and not os.path.lexists(os.path.join(root, words)) and
            next(glob.iglob(os.path.join(glob.escape(root), words), recursive=True), None) is None]
