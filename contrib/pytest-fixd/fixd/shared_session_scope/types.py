# SPDX-License-Identifier: MIT
from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Dict, Protocol, Sequence

from ._tokens import CleanupToken, SetupToken

__all__ = ["CleanupToken", "SetupToken", "Store", "StoreValueNotExists"]


class StoreValueNotExists(Exception):
    """Nothing was written under that identifier."""


class Store(Protocol):
    """Where the data of a fixture is kept between processes."""

    @property
    def fixtures(self) -> Sequence[str]:
        """Names of the fixtures whose values the other methods get."""

    def read(self, identifier: str, fixture_values: Dict[str, Any]) -> Any:
        """StoreValueNotExists if there is nothing."""

    def write(self, identifier: str, data: Any, fixture_values: Dict[str, Any]) -> None: ...

    def lock(self, identifier: str, fixture_values: Dict[str, Any]) -> "AbstractContextManager[Any]":
        """Held while one process reads or writes."""
