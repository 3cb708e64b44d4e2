"""The packages that only the examples need are imported when they are, and a missing one says what mends it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

PIP = "pip install -r examples/requirements.txt"


def need(module: str) -> ModuleType:
    """The module. Raises ImportError with the line that mends it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise ImportError(f"The examples of jobs need {module}: {PIP}", name=missing.name) from missing
