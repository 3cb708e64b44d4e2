"""The page on security names tests and files that exist, and each of its rows shows something or says that nothing does."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not re.match(r"\| (rule|promise|class) \|", line)]
NAMED = sorted(set(re.findall(r"`(tests/[^`]+\.py)::(\w+)`", PAGE)))


@lru_cache
def cases_in(path: str) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, functions)}


def test_each_row_is_shown_by_a_test_or_says_that_it_is_not_covered():
    assert len(ROWS) > 60
    assert [row for row in ROWS if "`tests/" not in row and "**not covered**" not in row] == []


def test_each_place_exists():
    places = {place for row in ROWS for place in re.findall(r"`((?:apps|jobplatform|sdk|docker|tests)/[\w/.]*?)(?:::\w+)?`", row)}
    assert len(places) > 40
    assert sorted(place for place in places if not (ROOT / place).exists()) == []


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_every_test_that_is_named_exists(path, name):
    assert name in cases_in(path)
