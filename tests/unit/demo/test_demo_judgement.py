"""The exit status of a demo: 0 only when the platform's answers are those the files themselves ask for."""

from __future__ import annotations

import hashlib
import io

import pytest
from rich.console import Console

from demo.files import look
from demo.play import Play
from jobplatform_sdk.client_values import Choice, Task


def answers(folder):
    """What a faultless platform says of `note.txt`."""
    (found,) = folder.files
    data = found.path.read_bytes()
    choice = Choice(attempt=1, agent="prose-reader", strategy="least_loaded", because="prose-reader is alone", at=None)
    task_id = found.task_id(1)
    result = {"summary": "2 words", "sha256": hashlib.sha256(data).hexdigest()}
    return {task_id: Task(task_id=task_id, status="completed", priority=-36, agent="prose-reader", assignment=choice, result=result)}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "note.txt").write_text("Two words.")
    return look(tmp_path)


def judged(folder, tasks):
    out = io.StringIO()
    return Play(Console(file=out, width=120), None, folder, rows=10).judge(tasks), out.getvalue()


def test_answers_as_they_should_be_are_status_0(folder):
    status, said = judged(folder, answers(folder))
    assert (status, "Every task ended as it should: 1 completed." in said) == (0, True)


def test_a_changed_answer_or_a_missing_one_is_status_1_and_named(folder):
    status, said = judged(folder, {})
    assert (status, "note.txt: the platform does not know it" in said) == (1, True)
    right = answers(folder)
    (folder.files[0].path).write_text("Two other words.")
    status, said = judged(folder, right)
    assert (status, "note.txt: the agent read other bytes" in said) == (1, True)
