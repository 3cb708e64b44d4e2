import os
import shutil
import subprocess

import pytest

from jobplatform.env import BASE_DIR

VERBS = ("venv", "demo", "up", "doctor", "test", "bench", "lock", "audit", "bill", "clean")


def make(*arguments: str) -> str:
    if shutil.which("make") is None:
        pytest.skip("make is missing")
    # The suite may itself have been started by make, which would pass its flags on.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=True).stdout


def test_make_alone_prints_its_verbs_and_does_nothing_else():
    lines = make().splitlines()
    assert [line.split()[1] for line in lines] == ["help", *VERBS]


def test_make_test_runs_the_store_again_on_mongodbs_wire_protocol():
    lines = make("-n", "test").splitlines()
    runs = [line for line in lines if "-m pytest" in line]
    assert len(runs) == 2
    assert "-m store --tasks-db=mongodb" in runs[1]
    assert any("ruff check" in line for line in lines)
    assert any("lint-imports" in line for line in lines)


def test_make_demo_hands_its_folder_and_options_on():
    lines = make("-n", "demo", "DIR=/some where", "ARGS=--exit").splitlines()
    assert lines[-1].endswith('-m demo --dir "/some where" --exit')


def test_ci_runs_make_test_and_fails_with_it():
    script = BASE_DIR / ".ci" / "run"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert "make test" in text


@pytest.mark.parametrize(("verb", "lock"), [("doctor", "requirements.lock"), ("test", "requirements-dev.lock")])
def test_what_is_installed_is_what_the_lock_says_hash_by_hash(verb, lock, tmp_path):
    (installs, ours, *_) = [line for line in make("-n", verb, f"VENV={tmp_path}/venv").splitlines() if "pip install" in line]
    assert installs.endswith(f"--require-hashes -r {lock}")
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(ours.split())
    dockerfile = (BASE_DIR / "docker" / "Dockerfile").read_text()
    installed = [line for line in dockerfile.splitlines() if "pip install" in line]
    assert all("--require-hashes -r requirements.lock" in line or "--no-index" in line for line in installed)


def test_an_audit_that_could_not_ask_about_a_package_is_none(tmp_path):
    (holes,) = [line for line in make("-n", "audit", f"VENV={tmp_path}/venv").splitlines() if "/pip-audit " in line]
    assert "--strict" in holes
    assert all(f"--requirement {lock.name}" in holes for lock in BASE_DIR.glob("requirements*.lock"))
