# SPDX-License-Identifier: MIT
"""A setting: of the command line, else of pytest.ini, pytest.toml or pyproject.toml, else the default."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

SECONDS_MAX = 1e9
_NUMBERS = ("fixture_max_age", "fixd_timeout")
_TEXTS = ("fixd_socket", "fixd_config")


def _table(config: pytest.Config) -> Any:
    """What the file says.  Newer ones of pytest warn of its old name."""
    table = getattr(config, "_inicfg", None)
    return config.inicfg if table is None else table


def is_in_file(config: pytest.Config, name: str) -> bool:
    return name in _table(config)


def _wrong(name: str, value: Any) -> pytest.UsageError:
    expected = "a number of seconds" if name in _NUMBERS else "a text" if name in _TEXTS else "true or false"
    return pytest.UsageError(f"{name} = {value}: expected {expected}")


def of_file(config: pytest.Config, name: str) -> Any:
    """Or the default.  In [tool.pytest] numbers are none to pytest, which knows no setting that is a number or a text."""
    try:
        return config.getini(name)
    except (TypeError, ValueError):
        value = _table(config)[name]
        value = getattr(value, "value", value)
        if name in _NUMBERS and type(value) in (int, float):
            return str(value)
        raise _wrong(name, value) from None


def setting(config: pytest.Config, name: str) -> Any:
    value = config.getoption(name)
    if value is not None:
        return value
    value = of_file(config, name)
    if name not in _NUMBERS:
        return value
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not 0 <= number < SECONDS_MAX or (number == 0 and name != "fixture_max_age"):
        raise _wrong(name, value)
    return number


def seconds_or_nought(text: str) -> float:
    return 0.0 if text.strip("0.") == "" and "0" in text else _seconds(text, "a number of seconds, or 0")


def seconds(text: str) -> float:
    return _seconds(text, "a number of seconds above 0")


def _seconds(text: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
    return value
