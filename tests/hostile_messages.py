"""What somebody who may write to Celery's broker could write there, by why it is no message of ours."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any

from django.conf import settings

from jobplatform.queues import Work

PLAIN = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


def message(queue: str, body: Any = PLAIN, *, task: Any = Work.SWEEP, **overrides: Any) -> bytes:
    """As kombu writes it into Redis: an envelope whose body is base64."""
    headers = {"lang": "py", "task": task, "id": "forged-1", "root_id": "forged-1", "retries": 0, "timelimit": [None, None], "eta": None}
    headers |= {
        "expires": None,
        "group": None,
        "parent_id": None,
        "ignore_result": True,
        "origin": "nobody",
        **overrides.pop("headers", {}),
    }
    properties = {"delivery_info": {"exchange": "", "routing_key": queue}, "delivery_tag": "forged-1", "body_encoding": "base64"}
    envelope = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {**properties, "delivery_mode": 2, "priority": 0, "correlation_id": "forged-1"},
    }
    return json.dumps({**envelope, **overrides}).encode()


def hostile(queue: str) -> dict[str, dict[str, bytes]]:
    """Reason -> name -> what is put into the list of `queue`."""
    return {
        "envelope": {
            "no JSON": b"\x80\x04garbage",
            "nothing": b"",
            "cut off": b'{"body":',
            "deep": b"[" * 100_000,
            "a list": b"[1, 2]",
            "a text": b'"x"',
            "null": b"null",
            "headers that are a list": json.dumps({**json.loads(message(queue)), "headers": [1]}).encode(),
            "no properties": json.dumps({**json.loads(message(queue)), "properties": {}}).encode(),
            "null properties": json.dumps({**json.loads(message(queue)), "properties": None}).encode(),
            "a body that is a number": json.dumps({**json.loads(message(queue)), "body": 5}).encode(),
            "no base64": json.dumps({**json.loads(message(queue)), "body": "A"}).encode(),
            "compressed": message(queue, headers={"compression": "application/x-gzip"}),
        },
        "content_type": {
            "pickle": message(queue, pickle.dumps(([], {}, {})), **{"content-type": "application/x-python-serialize"}),
            "yaml": message(queue, b"- []\n- {}\n- {}\n", **{"content-type": "application/x-yaml"}),
            "no encoding": message(queue, **{"content-encoding": "rot13"}),
        },
        "headers": {
            "no headers": json.dumps({**json.loads(message(queue)), "headers": {}}).encode(),
            "a task that is an object": message(queue, task={"a": 1}),
            "no task": message(queue, task=None),
            "no id": message(queue, headers={"id": None}),
            "an id without end": message(queue, headers={"id": "x" * 10_000}),
            "a time that is none": message(queue, headers={"eta": "never"}),
            "an end that is none": message(queue, headers={"expires": "soon"}),
        },
        "unknown_task": {"a function of Python": message(queue, task="os.system", body=b'[["true"], {}, {}]')},
        "arguments": {"of another function": message(queue, b'[["a", 1], {"x": 1}, {}]')},
        "body": {
            "no body of JSON": message(queue, b"{{{"),
            "a body that is a text": message(queue, b'"hello"'),
            "arguments that are an object": message(queue, b"[{}, {}, {}]"),
            "callbacks that are none": message(queue, b'[[], {}, {"callbacks": "os.system", "chord": 5}]'),
        },
    }


def put(client: Any, queue: str) -> int:
    """All of them into the queue, on a Redis; how many."""
    items = [item for kind in hostile(queue).values() for item in kind.values()]
    key = f"{settings.CELERY_BROKER_TRANSPORT_OPTIONS['global_keyprefix']}{queue}"
    client.lpush(key, *items)
    return len(items)
