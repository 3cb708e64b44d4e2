"""Log lines: ids bound once, one fact a line whatever users write, and no secret in any of it."""

from __future__ import annotations

import io
import json
import logging

import pytest

from apps.core import logs, observe
from apps.core.observe_read import counted, exposition
from jobplatform.settings.logs import JsonFormatter, TextFormatter
from tests.factories import bearer, make_entry, make_key

EVIL = "a\r\n20:00:00.000 info    apps: forged=1\x1b[2J\u2028b"


@pytest.fixture
def written():
    """All that goes to the log, as text and as JSON, whatever the level."""
    streams = {form: io.StringIO() for form in ("text", "json")}
    handlers = []
    for form, formatter in (("text", TextFormatter()), ("json", JsonFormatter())):
        handler = logging.StreamHandler(streams[form])
        handler.setFormatter(formatter)
        handlers.append(handler)
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.DEBUG)
    for handler in handlers:
        root.addHandler(handler)
    yield lambda: {form: stream.getvalue() for form, stream in streams.items()}
    for handler in handlers:
        root.removeHandler(handler)
    root.setLevel(level)


def last(written) -> tuple[str, dict]:
    return written()["text"].splitlines()[-1], json.loads(written()["json"].splitlines()[-1])


def test_ids_are_bound_once_and_forgotten_with_their_entry(written):
    log = logging.getLogger("apps.test")
    with logs.bind(request_id="r1"):
        logs.add(org="acme")
        log.warning("task.odd", extra={"task": "t1", "org": "said"})
        text, line = last(written)
        assert text.endswith("task.odd request_id=r1 task=t1 org=said")
        assert (line["event"], line["request_id"], line["org"], line["task"]) == ("task.odd", "r1", "said", "t1")
    log.warning("later")
    assert "request_id" not in last(written)[1]


def test_a_fact_cannot_take_the_place_of_the_event(written):
    logging.getLogger("apps.test").warning("real.event", extra={"event": "other", "at": 1})
    assert {name: last(written)[1][name] for name in ("event", "event_", "at_")} == {"event": "real.event", "event_": "other", "at_": 1}


def test_text_of_users_forges_no_line_and_moves_no_cursor(written):
    log = logging.getLogger("apps.test")
    try:
        raise ValueError(EVIL)
    except ValueError:
        log.exception("task.failed %s", EVIL, extra={"reason": EVIL})
    text = written()["text"]
    assert "\x1b" not in text and "\r" not in text and "\u2028" not in text
    first, *rest = text.splitlines()
    assert "task.failed" in first and rest and all(line.startswith("  | ") for line in rest)
    assert len(written()["json"].splitlines()) == 1 and "\x1b" not in written()["json"]


SECRETS = {
    "jp_abcdef123456_" + "s" * 43: "jp_abcdef123456_…",
    "whsec_" + "QUJD" * 10 + "==": "whsec_…",
    "redis://:hush-hush@127.0.0.1:1/0": "redis://:…@127.0.0.1:1/0",
    "postgres://joe:hush-hush@db/x": "postgres://joe:…@db/x",
    "Authorization: Bearer abcdefgh.ijkl": "Authorization: Bearer …",
}


@pytest.mark.parametrize(("secret", "shown"), SECRETS.items())
def test_what_looks_like_a_secret_is_blotted_out_wherever_it_stands(written, secret, shown):
    logging.getLogger("apps.test").warning("odd %s", secret, extra={"said": secret})
    for line in written().values():
        assert line.count(shown) == 2 and secret not in line


@pytest.mark.django_db
def test_canaries_planted_everywhere_show_nowhere(client, redis, written):
    canary = "canary-" + "7" * 20
    key, admin = make_key("acme"), make_key("acme", "org_admin")
    client.raise_request_exception = False
    client.post("/api/v1/tasks", make_entry(task_job_submission_data={"password": canary}), "application/json", headers=bearer(key))
    client.post("/api/v1/tasks", make_entry(task_goal=canary, nonsense=canary), "application/json", headers=bearer(key))
    client.post("/org-config/acme/max_attempts", {"value": canary}, "application/json", headers=bearer(admin))
    made = client.post("/api/v1/webhooks", {"url": f"https://x.example.com/{canary}"}, "application/json", headers=bearer(admin)).json()
    client.post("/api/v1/webhooks", {"url": f"http://10.0.0.1/{canary}"}, "application/json", headers=bearer(admin))
    client.get(f"/api/v1/tasks?q={canary}", headers=bearer(key))
    observe.flush()
    told = "".join(written().values()) + exposition(counted()).decode()
    for secret in (canary, key.split("_", 2)[2], admin.split("_", 2)[2], made["secret"]):
        assert secret not in told
