# SPDX-License-Identifier: MIT
"""Expensive pytest fixtures, built once and shared by all processes of a run and by all later runs.

    import fixd

    @fixd.fixture(scope="session", watch=["data/*.csv"])
    def table():
        return numpy.loadtxt("data/table.csv")

The first process that needs the fixture builds it; everybody else gets the same bytes from shared memory.
"""

from ._fixtures import FixtureBuildError, fixture
from ._lib import Connection, FixdError, View
from ._use import use
from ._values import Serializer

__version__ = "0.1"
__all__ = ["Connection", "FixdError", "FixtureBuildError", "Serializer", "View", "fixture", "use"]
