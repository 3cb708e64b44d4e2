"""Rules of the house that a reader should never have to check by eye."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from jobplatform.env import BASE_DIR

ROOMS = ("apps", "jobplatform", "workers")
CODE = sorted(path.relative_to(BASE_DIR) for room in ROOMS for path in (BASE_DIR / room).rglob("*.py") if "migrations" not in path.parts)


def names_used(path: Path) -> list[str]:
    return [ast.unparse(node) for node in ast.walk(ast.parse((BASE_DIR / path).read_text())) if isinstance(node, (ast.Attribute, ast.Call))]


@pytest.mark.parametrize("path", [path for path in CODE if path != Path("jobplatform/env.py")], ids=str)
def test_only_env_reads_the_environment(path):
    settings_module = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'jobplatform.settings')"
    readers = [name for name in names_used(path) if name.startswith(("os.environ", "os.getenv", "environ."))]
    allowed = {settings_module, "os.environ.setdefault", "os.environ"} if settings_module in readers else set()
    assert set(readers) <= allowed


@pytest.mark.parametrize("path", [path for path in CODE if path.parts[0] != "jobplatform"], ids=str)
def test_the_standard_librarys_http_clients_are_no_way_past_the_door(path):
    # import-linter knows packages only; everything else that speaks HTTP is forbidden there.
    imported = [node for node in ast.walk(ast.parse((BASE_DIR / path).read_text())) if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in imported if isinstance(node, ast.ImportFrom)}
    assert not modules & {"http.client", "urllib.request", "ftplib", "smtplib", "telnetlib"}


def test_imports_point_downwards_and_every_service_has_one_door():
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint, "--no-cache"], cwd=BASE_DIR, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
