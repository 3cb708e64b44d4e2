"""The sessions in examples/ and in the reference are documents that the platform takes, and their processors measure what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from apps.workflows.document import reading
from apps.workflows.engine.processors import WorkItem
from examples import code_checks
from jobplatform_sdk.cli.sessions import read_document

ROOT = Path(__file__).resolve().parents[3]
PROCESSORS = ("FindPackages", "CheckPackage", "WriteReport")


@pytest.mark.parametrize("name", ["code_checks.yaml", "read_documents.yaml"])
def test_an_example_is_a_good_document(name):
    document = read_document(str(ROOT / "examples" / name))
    assert reading.parse(document, processors=PROCESSORS if name.startswith("code") else ()).steps


def test_the_first_session_of_the_reference_is_a_good_document():
    page = (ROOT / "docs" / "sessions.md").read_text()
    document = yaml.safe_load(re.search(r"```yaml first\n(.*?)```", page, re.S)[1])
    assert reading.parse(document, processors=()).steps == ("main.greet", "main.letter")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setenv("CODE_CHECKS_ROOT", str(tmp_path))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.py").write_text('"""Doc."""\n\n\ndef f(x):\n    # TODO: better\n    return 1 if x and x > 2 else 0\n')
    (tmp_path / "one" / "b.py").write_text("half (\n")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "c.py").write_text("x = 1\n")
    code_checks._trees.cache_clear()
    return tmp_path


def item(**given) -> WorkItem:
    return WorkItem(session_id="s", org_id="o", path="p", index=0, attempt=1, input=given)


def test_the_checks_measure_what_is_there(tree):
    assert code_checks.FindPackages().execute_task(item(folder=".")) == ["one"]
    found = [code_checks.CheckPackage().execute_task(item(package="one", check=check)) for check in code_checks.CHECKS]
    assert [(one["check"], one["value"]) for one in found] == [("complexity", 3), ("docstrings", 50), ("todos", 1), ("size", 7)]
    report = code_checks.WriteReport().execute_task(item(findings={"results": found}))
    assert report.startswith("1 package, 4 checks, 4 findings")
    assert "complexity: one 3 most, a.py:4 f" in report
    assert code_checks.WriteReport().execute_task(item(findings={"results": []})).startswith("0 packages")


@pytest.mark.parametrize("folder", ["..", "/etc", "one/../..", "nosuch"])
def test_nothing_outside_of_its_folder_is_read(tree, folder):
    with pytest.raises(code_checks.Outside):
        code_checks.FindPackages().execute_task(item(folder=folder))
