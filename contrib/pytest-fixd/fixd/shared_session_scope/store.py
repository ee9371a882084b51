# SPDX-License-Identifier: MIT
"""Stores of files in the directory that all workers of a run share."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence

from .types import StoreValueNotExists

__all__ = ["FileStore", "JsonStore", "LocalFileStoreMixin", "PickleStore"]


class LocalFileStoreMixin:
    """A path for each identifier, and a lock beside it; read() and write() are yours."""

    @property
    def fixtures(self) -> Sequence[str]:
        return ["tmp_path_factory"]

    def _get_path(self, identifier: str, tmp_path_factory: Any) -> Path:
        base = tmp_path_factory.getbasetemp()
        # A worker's own directory lies in that of the run.
        root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        return Path(root) / f"{identifier}.json"

    @contextmanager
    def lock(self, identifier: str, fixture_values: Dict[str, Any]) -> Iterator[None]:
        path = self._get_path(identifier, fixture_values["tmp_path_factory"])
        with open(f"{path}.lock", "a") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield


class FileStore(LocalFileStoreMixin):
    """Text."""

    def read(self, identifier: str, fixture_values: Dict[str, Any]) -> Any:
        try:
            return self._get_path(identifier, fixture_values["tmp_path_factory"]).read_text()
        except FileNotFoundError:
            raise StoreValueNotExists(identifier) from None

    def write(self, identifier: str, data: Any, fixture_values: Dict[str, Any]) -> None:
        self._get_path(identifier, fixture_values["tmp_path_factory"]).write_text(data)


class JsonStore(FileStore):
    def read(self, identifier: str, fixture_values: Dict[str, Any]) -> Any:
        return json.loads(super().read(identifier, fixture_values))

    def write(self, identifier: str, data: Any, fixture_values: Dict[str, Any]) -> None:
        super().write(identifier, json.dumps(data), fixture_values)


class PickleStore(LocalFileStoreMixin):
    def read(self, identifier: str, fixture_values: Dict[str, Any]) -> Any:
        try:
            return pickle.loads(self._get_path(identifier, fixture_values["tmp_path_factory"]).read_bytes())
        except FileNotFoundError:
            raise StoreValueNotExists(identifier) from None

    def write(self, identifier: str, data: Any, fixture_values: Dict[str, Any]) -> None:
        self._get_path(identifier, fixture_values["tmp_path_factory"]).write_bytes(pickle.dumps(data, 5))
