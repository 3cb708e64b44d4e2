"""Whole processes for the upper floors, and ways to wait for them without sleeping."""

from __future__ import annotations

import os


def worker_id() -> str:
    """`gw0`, `gw1`, … under xdist; `main` without."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")
