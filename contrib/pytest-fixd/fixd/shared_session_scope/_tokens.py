# SPDX-License-Identifier: MIT
"""Fixtures that yield twice: the first yield asks who computes, the second one hands the data out and asks who cleans up."""

from __future__ import annotations

import enum
from typing import Any, Iterator


class SetupToken(enum.Enum):
    FIRST = "first"


class CleanupToken(enum.Enum):
    LAST = "last"


def exhausted(definition: Any) -> Exception:
    return ValueError(f"This generator should not have been exhausted. A fixture that is shared and yields, like "
                      f"'{definition.function.__name__}', MUST yield exactly twice.")


def first(generator: Iterator[Any]) -> Any:
    """The data, computed here; StopIteration if it yields once only."""
    return generator.send(SetupToken.FIRST)  # type: ignore[attr-defined]


def later(definition: Any, generator: Iterator[Any], data: Any) -> Any:
    """The data, as a process that did not compute it hands it out."""
    try:
        next(generator)
        return generator.send(data)  # type: ignore[attr-defined]
    except StopIteration:
        raise exhausted(definition) from None


def end(definition: Any, generator: Iterator[Any], last: bool) -> None:
    try:
        generator.send(CleanupToken.LAST if last else None)  # type: ignore[attr-defined]
    except StopIteration:
        return
    raise AssertionError(f"the fixture '{definition.function.__name__}' yields more than twice")
