# SPDX-License-Identifier: MIT
"""Expensive pytest fixtures, built once and shared by all processes of a run and by all later runs.

    import fixd

    @fixd.fixture(scope="session", watch=["data/*.csv"])
    def table():
        return numpy.loadtxt("data/table.csv")

The first process that needs the fixture builds it; everybody else gets the same bytes from shared memory.

PYTEST_DONT_REWRITE: a warm interpreter has it before pytest.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._checkpoint import checkpoint
    from ._fixtures import FixtureBuildError, fixture
    from ._lib import Connection, FixdError, View
    from ._use import use
    from ._values import Serializer

__version__ = "0.1"
__all__ = ["Connection", "FixdError", "FixtureBuildError", "Serializer", "View", "checkpoint", "fixture", "use"]

# Imported when they are asked for: some need pytest, which programs with a checkpoint may not have, and fixd-python has no time.
_PLACES = {"Connection": "_lib", "FixdError": "_lib", "FixtureBuildError": "_fixtures", "Serializer": "_values", "View": "_lib",
           "checkpoint": "_checkpoint", "fixture": "_fixtures", "use": "_use"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = globals()[name] = getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    return value
