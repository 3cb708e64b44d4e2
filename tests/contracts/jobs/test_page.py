"""docs/jobs-backends.md says of the backends what they say of themselves."""

from __future__ import annotations

from dataclasses import fields

from apps.jobs import backends
from apps.jobs.backends.base import Traits
from jobplatform.env import BASE_DIR

ROWS = {
    "priority": "order of waiting jobs",
    "concurrency": "several at once",
    "hard_kill": "ends a job that ignores its time limit",
    "worker_death": "notices that a worker died",
    "told_to_stop": "is told to stop while jobs run",
    "delay": "delays",
    "retries": "retries",
    "dependencies": "dependencies",
    "results": "results",
    "wire": "messages",
    "extra": "to install",
}


def test_the_published_table_is_that_of_the_code():
    traits = [backends._class(name).traits for name in ("celery", "rq", "dramatiq", "memory")]
    assert set(ROWS) == {each.name for each in fields(Traits)}
    table = [[title, *(_cell(getattr(each, field), field) for each in traits)] for field, title in ROWS.items()]
    expected = "\n".join(f"| {' | '.join(row)} |" for row in table)
    page = (BASE_DIR / "docs" / "jobs-backends.md").read_text()
    assert f"| | celery | rq | dramatiq | memory |\n|---|---|---|---|---|\n{expected}\n\n" in page, f"the table should be\n{expected}"


def _cell(text: str, field: str) -> str:
    return f"`pip install '.[{text}]'`" if field == "extra" and text else text or "–"
