"""What people use: the command line, the admin, the documentation pages."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request

import pytest

from jobplatform.env import BASE_DIR
from tests.services import free_port

pytestmark = pytest.mark.acceptance


@pytest.fixture
def jobctl(org):
    def run(*arguments: str, key: str = "", url: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
        env = {
            **os.environ,
            "JOBPLATFORM_URL": url or org.stack.url,
            "JOBPLATFORM_API_KEY": key or org.keys["sam"],
            "PYTHONPATH": str(BASE_DIR / "sdk"),
        }
        command = [sys.executable, "-m", "jobplatform_sdk.cli", *arguments]
        return subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=60)

    return run


def test_jobctl_submits_waits_lists_shows_and_cancels(org, jobctl):
    done = jobctl("submit", "--goal", "one two three", "--intent", "to see", "--task-id", "people-cli-1", "--wait", "20", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"]["words"] == 3
    shown = jobctl("show", "people-cli-1")
    assert shown.returncode == 0
    assert "completed" in shown.stdout
    assert "people-cli-1" in jobctl("tasks", "--json").stdout
    held = jobctl("submit", "--goal", "wait", "--intent", "x", "--task-id", "people-cli-2", "--set", "task_execution_mode=manual", "--json")
    assert held.returncode == 0, held.stderr
    assert jobctl("cancel", "people-cli-2", "--json").returncode == 0
    assert org.api.task("people-cli-2")["status"] == "cancelled"


def test_jobctl_takes_a_file_of_many_and_watches_them_end(org, jobctl, tmp_path):
    file = tmp_path / "tasks.ndjson"
    file.write_text("".join(json.dumps(org.entry(task_id=f"people-{n}")) + "\n" for n in range(40)))
    run = jobctl("bulk", str(file), "--watch", "--timeout", "40", "--json")
    assert run.returncode == 0, run.stderr
    assert {org.api.task(f"people-{n}")["status"] for n in range(40)} == {"completed"}


def test_jobctl_says_what_went_wrong_with_its_exit_status(jobctl):
    assert jobctl("show", "no-such-task").returncode == 3
    assert jobctl("tasks", key="jp_abcdefabcdef_" + "x" * 43).returncode == 3
    assert jobctl("tasks", url=f"http://127.0.0.1:{free_port()}").returncode == 4
    wrong = jobctl("submit")
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


class Browser:
    def __init__(self, url: str) -> None:
        self.url = url
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def open(self, path: str, form: dict[str, str] | None = None) -> tuple[str, str]:
        """(address, page) after redirects; a status from 400 on is an error."""
        headers = {"Accept": "text/html", "Referer": self.url + path}
        data = urllib.parse.urlencode(form).encode() if form else None
        with self._opener.open(urllib.request.Request(self.url + path, data=data, headers=headers), timeout=20) as response:
            return response.geturl(), response.read().decode()

    def submit(self, path: str, **fields: str) -> tuple[str, str]:
        _, page = self.open(path)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)[1]
        return self.open(path, {"csrfmiddlewaretoken": token, **fields})


def test_an_operator_finds_everything_in_the_admin(org):
    entry = org.entry(task_goal="to be looked at <b>closely</b>")
    org.api.submit(entry)
    org.api.ended(entry["task_id"])
    password = "correct-horse-battery"
    made = org.stack.manage(
        "shell", "-c",
        "from django.contrib.auth.models import User; "
        f"User.objects.filter(username='root').exists() or User.objects.create_superuser('root', '', '{password}')",
    )  # fmt: skip
    assert made.returncode == 0
    browser = Browser(org.stack.url)
    at, _ = browser.open("/admin/tasks/task/")
    assert "/admin/login/" in at
    at, index = browser.submit("/admin/login/?next=/admin/", username="root", password=password)
    assert at.endswith("/admin/")
    lists = sorted(set(re.findall(r'href="(/admin/\w+/\w+/)"', index)))
    for model in ("tasks/task", "orgs/org", "orgs/apikey", "roles/role", "roles/subject", "dsl/policyscript", "dsl/policyrun"):
        assert f"/admin/{model}/" in lists
    for path in lists:
        _, page = browser.open(path)
        assert 'id="changelist"' in page or "result" in page, path
    _, found = browser.open(f"/admin/tasks/task/?q={entry['task_id']}")
    assert entry["task_id"] in found
    key = urllib.parse.quote(f"{org.org_id}/{entry['task_id']}".replace("_", "_5F").replace("/", "_2F"))
    _, page = browser.open(f"/admin/tasks/task/{key}/change/")
    assert "<b>closely</b>" not in page
    assert "completed" in page
    assert "dispatched" in page


def test_the_documentation_opens_and_the_health_tells_nothing_of_the_inside(org):
    stranger = org.stack.api()
    assert stranger.get("/api/docs", Accept="text/html").status == 200
    assert "/internal/process-task" in stranger.get("/api/schema").body.decode()
    assert stranger.get("/health").status == 200
