"""What only the examples need stays with the examples."""

from __future__ import annotations

import subprocess
import sys
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


def test_they_are_not_loaded_before_they_are_used(tmp_path):
    source = "import sys, django; django.setup(); import examples.jobs.library; print(*sys.modules)"
    env = {"PYTHONPATH": f"{BASE_DIR}/sdk:{BASE_DIR}", "DJANGO_SETTINGS_MODULE": "jobplatform.settings", "JOBPLATFORM_DATA": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", source], env=env, capture_output=True, text=True, check=True)
    assert "examples.jobs.embedding" in run.stdout and set(run.stdout.split()) & OURS == set()
