"""What only the examples need stays with the examples."""

from __future__ import annotations

import ast
import tomllib

import pytest

from examples.jobs.extras import PIP, need
from jobplatform.env import BASE_DIR

OURS = {"pypdf", "docx", "tokenizers", "safetensors", "wordllama"}


def pins(text: str) -> set[str]:
    return {line.split("#")[0].strip() for line in text.splitlines() if "==" in line.split("#")[0]}


def test_the_extra_has_what_the_requirements_have():
    extras = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras["examples"]) == pins((BASE_DIR / "examples/requirements.txt").read_text())
    assert "-r examples/requirements.txt" in (BASE_DIR / "requirements-dev.txt").read_text()


def test_a_missing_package_says_what_mends_it():
    with pytest.raises(ImportError, match=f"need no_such_package: {PIP}"):
        need("no_such_package")


@pytest.mark.parametrize("module", sorted((BASE_DIR / "examples/jobs").glob("*.py")), ids=lambda module: module.stem)
def test_they_are_imported_by_need_and_nowhere_else(module):
    tree = ast.parse(module.read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in named} & OURS == set()


def test_the_platform_imports_no_example_but_where_its_urls_are_asked_for():
    ours = [path for room in ("apps", "jobplatform", "workers") for path in (BASE_DIR / room).rglob("*.py")]
    named = {path.relative_to(BASE_DIR).as_posix() for path in ours if "examples.jobs" in path.read_text()}
    assert named == {"jobplatform/urls.py"}
