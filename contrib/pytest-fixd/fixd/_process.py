# SPDX-License-Identifier: MIT
"""Processes, told from later ones that have their number."""

from __future__ import annotations


def process(pid: int) -> str:
    """A word for a process that no later one has; empty: there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f"{pid} {int(f.read().rpartition(b')')[2].split()[19])}"
    except OSError:
        return ""


def lives(one: str) -> bool:
    return bool(one) and process(int(one.split()[0])) == one
