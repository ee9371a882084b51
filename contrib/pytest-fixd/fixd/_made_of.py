# SPDX-License-Identifier: MIT
"""What something was made of that neither its version nor its key tells: files, the environment, options, and its directories as they were.

It lies beside the value. Whoever finds it otherwise builds the fixture again.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence

from . import _asked, _directories, _outside, _reads, _source


GONE = "its directory is gone"


class MadeOf:
    """While it is built."""

    def __init__(self, definition: Any, runtime: Any, request: Any):
        self._definition, self._runtime, self._request = definition, runtime, request
        self._reads, self._outside = _reads.Reads(), _outside.Outside(request)
        self.files: List[str] = []
        self.read: List[str] = []  # of these, by the build itself
        self.outside: List[List[str]] = []
        self.set: Iterable[str] = ()  # variables of the environment

    @contextlib.contextmanager
    def listening(self, asked: _asked.Record) -> Iterator[None]:
        with asked.listening(), self._reads.listening(), self._outside.listening():
            yield
        definition, root, self.set = self._definition, self._runtime.root, self._outside.set
        if "node" in asked.looked:
            self._outside.names.add(("marks", "of the test"))
        found = self._outside.found(definition.function) if definition.key is None else []
        # Of what travels, whoever wrote it has said that it is the same on other machines: what its own lines show is told.
        self.outside = [one for one in found if one[0] in _outside.NOT_IN_ITS_LINES or not definition.remote]
        known = _source.files_of(definition.function, root)
        self.files = self._reads.unknown(root, definition.watch, known, _source.imports_computed(definition.function))
        if self._reads.relative & {os.path.join(root, path) for path in self.files}:
            self.outside = [*self.outside, _outside.working_directory(self._request)]
        self.read = [path for path in self.files if path not in self._reads.at_import]

    def data(self, directories: Sequence[str]) -> Dict[str, Any]:
        """What is the same each time that the same is built, as the value is: but for directories, which have other names each time."""
        built = {"built": time.time()} if directories else {}
        return {"files": _reads.remembered(self.files, self._runtime.root, self._reads.as_read), "outside": self.outside, **built}


def difference(head: Dict[str, Any], runtime: Any, request: Any) -> Optional[str]:
    """What is another one than it was for what lies in an image; None: nothing is."""
    made_of, directories = head.get("made_of") or {}, head.get("directories", ())
    if not _directories.are_there(directories):
        return GONE
    path = _reads.difference(made_of.get("files", ()), runtime.root)
    if path:
        return f"{path} has changed"
    what = _outside.difference(made_of.get("outside", ()), request)
    if what:
        return f"{what} is another one"
    changed = _directories.changed(directories, made_of.get("built", runtime.began), runtime.began)
    return f"an earlier run has changed {changed}" if changed else None
