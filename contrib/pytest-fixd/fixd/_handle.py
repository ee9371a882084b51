# SPDX-License-Identifier: MIT
"""One fixture that is set up in this process: what it has of it, and how it ends here."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, List, Optional, Sequence

from . import _directories, _ledger, _suspended
from ._definition import Definition
from ._lib import View
from ._values import Stored


class Handle:
    """One fixture that is set up in this process."""

    def __init__(self, definition: Definition, title: str, fixturedef: Any):
        self.definition, self.title, self.fixturedef = definition, title, fixturedef
        self.view: Optional[View] = None
        self.stored: Optional[Stored] = None
        self.generator: Optional[Any] = None
        self.made = False  # the first half was run here
        self.needs: Sequence[View] = ()  # what it was made of, if it was made here
        self.how = "local"  # built, attached, reused, local
        self.instance = ""  # its full name and place
        self.directories: List[str] = []  # that were made for it here
        self.copy: Optional[str] = None  # of the note for whoever tears it down in our place
        self.data: Any = None  # what the first half has made, while nobody else has it
        self.private: Optional[str] = None  # what is this process's own of the value, when it was last looked at
        self.cached: Any = None  # what pytest has of it, at the end of a test and before fixtures end
        self.unseen = False  # tests have run since that did not ask for it
        self.was_had = False  # by a test, since it was as it was built
        self.pristine: Optional[str] = None  # and when it was loaded
        self.canonical: Optional[str] = None  # the same, where the first has been no evidence of a change
        self.value: Any = None  # what tests get
        self.things: Optional[List[Any]] = None  # whose code it has, when somebody has asked

    def has_changed(self) -> bool:
        """What this process has of its own of the value, since it was looked at."""
        assert self.stored is not None
        now = self.stored.private_print(self.value)
        if now is None or now == self.private:
            return False
        before, canonical = self.canonical, self.stored.canonical_print(self.value)
        if before is None and canonical is not None:
            one, other = self.stored.value(), self.stored.value()
            before = self.stored.canonical_print(one)
            if before != self.stored.canonical_print(other):
                # As scipy's trees, which have addresses in what they say of themselves: nobody can tell.
                self.private = self.pristine = None
                return False
        self.private, self.canonical = now, canonical
        if canonical is None or canonical != before:
            return True
        # Values that are loaded now are pickled as this one is.
        self.pristine = now
        return False

    def finish(self, stored: Optional[Stored] = None) -> None:
        """The second half, where the first half was run, unless somebody else runs it; `stored`: what the first has made, if that is shared."""
        if not _ledger.strike(self.copy):
            self.leave_to_others()
            return
        try:
            self._run_second_half(stored)
        finally:
            _directories.remove(self.directories)

    def _run_second_half(self, stored: Optional[Stored]) -> None:
        generator, self.generator = self.generator, None
        made, self.made = self.made, False
        if generator is None:
            if self.definition.teardown and made:
                self.definition.teardown(self.data if stored is None or self.definition.store is not None else stored.value())
            return
        if self.definition.tokens:
            generator.close()
            return
        try:
            next(generator)
        except StopIteration:
            return
        raise RuntimeError(f"fixture '{self.title}' yields more than once")

    def leave_to_others(self) -> None:
        """Somebody else tears it down: were the generator collected, its 'finally' would run here, too."""
        if self.generator is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.generator))
        self.generator, self.made = None, False

    def share(self, built: Any, shared: Any) -> None:
        """Its generator, which may stay as long as this process does, has what everybody has."""
        generator, half = self.generator, self.definition.second_half
        if generator is not None:
            needed = half.needs if half is not None else ()
            is_known = self.definition.unmovable is None  # what is behind the yield
            _suspended.change(generator, lambda name, value: shared if value is built else
                              None if is_known and name not in needed and _is_bulk(value) else value)


def _is_bulk(value: Any) -> bool:
    """Bytes and numbers, and nothing that ends when it is collected."""
    numpy = sys.modules.get("numpy")
    return isinstance(value, (bytes, bytearray)) or (numpy is not None and type(value) is numpy.ndarray and not value.dtype.hasobject)
