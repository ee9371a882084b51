# SPDX-License-Identifier: MIT
"""What a command line of Python says, as python(1) reads it."""

from __future__ import annotations

from typing import List, Sequence

# Those that the interpreter has from its start on; the others, as -i and -V, are no program to be forked.
_FLAGS = "bBdEIOPqsSuvx"
_FLAGS_WITH_VALUE = "WX"


class Plain(Exception):
    """Plain python is to be run: a sentence says why."""


class CommandLine:
    """python FLAGS KIND NAME ARGUMENTS: `kind` is script, -m or -c."""

    def __init__(self, words: Sequence[str]):
        self.words = list(words)
        self.flags: List[str] = []
        self.kind = self.name = ""
        rest = self.words[:]
        while rest:
            word = rest[0]
            if word == "-" or not word.startswith("-"):
                break
            del rest[0]
            if word == "--":
                break
            if word.startswith("--"):
                if word == "--check-hash-based-pycs" and rest:
                    self.flags += [word, rest.pop(0)]
                    continue
                raise Plain(f"{word} runs no program")
            if self._take(word, rest):
                self.arguments = rest
                return
        if not rest or rest[0] == "-":
            raise Plain("what it runs is read from standard input")
        self.kind, self.name, self.arguments = "script", rest[0], rest[1:]

    def _take(self, word: str, rest: List[str]) -> bool:
        """One word of flags.  True: it has named the program."""
        for i, letter in enumerate(word[1:], 1):
            if letter in "cm":
                self.kind = f"-{letter}"
                self.name = word[i + 1:] or (rest.pop(0) if rest else "")
                if not self.name:
                    raise Plain(f"-{letter} names nothing")
                return True
            if letter in _FLAGS_WITH_VALUE:
                value = word[i + 1:] or (rest.pop(0) if rest else "")
                self.flags.append(f"-{letter}{value}")
                return False
            if letter not in _FLAGS:
                raise Plain(f"-{letter} runs no program that could be forked")
            self.flags.append(f"-{letter}")
        return False
