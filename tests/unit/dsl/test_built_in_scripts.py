"""Each built-in script does what its first lines say."""

from __future__ import annotations

from itertools import pairwise

import pytest

from apps.dsl.facts import task_facts
from apps.dsl.scripts import built_in_files
from jobplatform.env import BASE_DIR
from tests.factories import make_entry


def file_task(path: str, size: int = 1000, *, priority: int = 0, **payload):
    return task_facts(make_entry(task_priority_value=priority, task_job_submission_data={"path": path, "size_bytes": size, **payload}))


@pytest.mark.parametrize("path", list(built_in_files(BASE_DIR / "dsl_scripts")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_built_in_script_answers_about_a_bare_task(ask, path):
    answer = ask(f"{path.parent.name}/{path.stem}", task_facts({}))
    assert answer["reason"]


def test_the_default_approval_accepts(ask):
    assert ask("approval/default", task_facts(make_entry()))["accepted"] is True


@pytest.mark.parametrize(
    ("task", "accepted", "words"),
    [
        (file_task("src/app.py"), True, "a text file of 1000 bytes"),
        (file_task("README"), True, "a text file"),
        (file_task("a/b/photo.PNG"), False, "photo.PNG is a binary file"),
        (file_task("data", is_binary=True), False, "data is a binary file"),
        (file_task("blob", extension=".so"), False, "binary"),
        (file_task("notes.txt", 70 * 1024), False, "notes.txt is too large: 70 kB, the limit is 64 kB"),
        (file_task("notes.txt", 64 * 1024), True, "a text file"),
        (file_task("web/package-lock.json"), False, "written by a tool"),
        (file_task("static/app.min.js"), False, "written by a tool"),
        (file_task("deploy/server.key"), False, "looks like a private key"),
        (task_facts(make_entry()), None, "names no file"),
    ],
)
def test_the_approval_of_files_refuses_in_words(ask, task, accepted, words):
    answer = ask("approval/files", task)
    assert answer["accepted"] is accepted
    assert words in answer["reason"]


def test_the_priority_of_files_puts_likely_secrets_first_and_prose_last(ask):
    in_order = ["config/credentials.yaml", "deploy/values.yaml", "src/app.py", "Makefile", "docs/guide.md"]
    priorities = [ask("priority/files", file_task(path))["priority"] for path in in_order]
    assert all(earlier > later for earlier, later in pairwise(priorities))


def test_among_equals_the_smaller_file_goes_first(ask):
    small, middle, large, huge = (ask("priority/files", file_task("a.py", size))["priority"] for size in (100, 20_000, 80_000, 200_000))
    assert small > middle > large == huge


def test_the_submitters_own_priority_still_counts(ask):
    plain, urgent = (ask("priority/files", file_task("a.py", priority=wish))["priority"] for wish in (0, 1000))
    assert urgent == plain + 100
    assert ask("priority/files", file_task("a.md", 10**9, priority=-1000))["priority"] >= -1000
