# SPDX-License-Identifier: MIT
"""Where what a run of pytest needs of fixd is found (_member.Runtime)."""

from __future__ import annotations

from typing import Any

import pytest

runtime_key = pytest.StashKey[Any]()


def runtime_of(config: pytest.Config) -> Any:
    runtime = config.stash.get(runtime_key, None)
    if runtime is None:
        raise pytest.UsageError("the plugin fixd is not loaded, and its fixtures are used: add -p fixd.plugin")
    return runtime
