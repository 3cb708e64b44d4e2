"""The maps from the specifications to their tests name tests that exist, and every test named after the specification is in it."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = "\n".join(page.read_text() for page in sorted((ROOT / "docs").glob("spec-map*.md")))
NAMED = sorted(set(re.findall(r"`(tests/[^`]+\.py)::(\w+)`", PAGE)))


@lru_cache
def cases_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_row_names_a_test_or_says_why_not():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| it says")]
    assert len(rows) > 60
    assert [row for row in rows if "`tests/" not in row and "says what the document is" not in row] == []


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda part: part.rpartition("/")[2])
def test_every_test_that_is_named_exists(path, name):
    assert name in cases_in(path)


@pytest.mark.parametrize("path", ["tests/acceptance/test_spec_000.py", "tests/acceptance/test_spec_003.py"])
def test_every_acceptance_test_of_the_specification_is_named(path):
    assert cases_in(path) - {name for where, name in NAMED if where == path} == set()
