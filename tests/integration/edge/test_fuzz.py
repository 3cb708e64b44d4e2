"""Every operation of the OpenAPI document, with bodies and paths that are nearly right, wrong, or noise: never a 5xx.

FUZZ_EXAMPLES in the environment asks for more than the few of everyday.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import bearer, make_agent, make_entry, make_key, make_org, make_task

pytestmark = pytest.mark.django_db
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))

ODD = [
    "", " ", "x" * 300, "../..", "a\x00b", "a\nb", "*", ">", ".", "$where", "__class__", "💥", "\u202eabc", "e\u0301",
    "%s", "null", "-1", "NaN",
]  # fmt: skip
NOISE = [b"", b"{", b"[]", b"null", b'{"a":1,"a":2}', b'{"a":NaN}', b'"\\ud800"', b"[" * 5000, b"\xef\xbb\xbf{}"]
NUMBERS = [0, 1, -1, 1.0, -0.0, 0.5, 2**31, 2**63 - 1, 2**63, 10**400, -(2**63) - 1, 1e308]
KNOWN = ["acme", "ada", "scouts", "max_attempts", "approval", "t1"]

texts = st.sampled_from([*ODD, *KNOWN]) | st.text(max_size=8)
numbers = st.sampled_from(NUMBERS) | st.integers(-5, 2000)
scalars = st.none() | st.booleans() | numbers | texts
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8)
noise = st.binary(max_size=40) | st.sampled_from(NOISE)
tasks = st.dictionaries(st.sampled_from(sorted(make_entry())), anything, max_size=3).map(lambda odd: {**make_entry(), **odd})
NEARLY_RIGHT = {"/internal/process-task": tasks.map(lambda data: {"type": "task", "data": data}), "/api/v1/tasks/bulk": tasks}


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    from drf_spectacular.generators import SchemaGenerator

    return SchemaGenerator().get_schema(request=None, public=True)


def operations() -> list[tuple[str, str]]:
    """All but the streams, which do not end by themselves."""
    paths = {path: item for path, item in document()["paths"].items() if not path.endswith("/stream")}
    return [(path, method) for path, item in paths.items() for method in item if method in ("get", "post", "put", "patch", "delete")]


def shaped(schema: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of the schema, now and then with something else in a place."""
    if "$ref" in schema:
        return shaped(document()["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], depth)
    for several in ("allOf", "oneOf", "anyOf"):
        if several in schema:
            return st.one_of([shaped(each, depth) for each in schema[several]])
    kind = schema.get("type")
    if "enum" in schema:
        right: st.SearchStrategy[Any] = st.sampled_from(schema["enum"])
    elif kind == "object" and depth < 4 and schema.get("properties"):
        right = st.fixed_dictionaries({}, optional={name: shaped(each, depth + 1) for name, each in schema["properties"].items()})
    elif kind == "array" and depth < 4:
        right = st.lists(shaped(schema.get("items", {}), depth + 1), max_size=3)
    else:
        right = {"string": texts, "integer": numbers, "number": numbers, "boolean": st.booleans()}.get(kind, anything)
    return st.one_of([right] * 4 + [anything])


def bodies(path: str, method: str) -> st.SearchStrategy[bytes]:
    content = document()["paths"][path][method].get("requestBody", {}).get("content", {})
    schema = next((kind.get("schema", {}) for kind in content.values()), None)
    if schema is None:
        return st.just(b"") | noise
    values = shaped(schema) | NEARLY_RIGHT.get(path, anything)
    return values.map(lambda value: json.dumps(value).encode()) | noise


def urls(path: str, method: str) -> st.SearchStrategy[str]:
    parameters = document()["paths"][path][method].get("parameters", [])
    inside = {parameter["name"]: st.one_of([st.sampled_from(KNOWN)] * 3 + [texts]) for parameter in parameters if parameter["in"] == "path"}
    always = {"wait": "0"} if path == "/internal/process-task" else {}
    behind = {parameter["name"]: texts for parameter in parameters if parameter["in"] == "query"}

    def url(parts: tuple[dict[str, str], dict[str, str]]) -> str:
        filled = path
        for name, value in parts[0].items():
            filled = filled.replace(f"{{{name}}}", quote(value, safe=""))
        return f"{filled}?{urlencode({**parts[1], **always})}"

    return st.tuples(st.fixed_dictionaries(inside), st.fixed_dictionaries({}, optional=behind)).map(url)


def kinds(path: str, method: str) -> st.SearchStrategy[str]:
    declared = list(document()["paths"][path][method].get("requestBody", {}).get("content", {})) or ["application/json"]
    return st.sampled_from(declared * 8 + ["text/plain"])


@pytest.fixture
def someone(redis, nats):
    make_agent("acme", "ada")
    make_org("acme", max_attempts=3)
    make_task("t1")
    return [bearer(make_key("acme", role)) for role in ("org_admin", "operator", "submitter")]


@pytest.mark.parametrize(("path", "method"), operations(), ids=str)
def test_nothing_that_is_sent_breaks_the_platform(client, someone, path, method):
    client.raise_request_exception = False

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(url=urls(path, method), body=bodies(path, method), kind=kinds(path, method), who=st.sampled_from([0, 0, 0, 0, 1, 2]))
    def send(url: str, body: bytes, kind: str, who: int) -> None:
        response = client.generic(method.upper(), url, body, content_type=kind, headers=someone[who])
        said = b"".join(response.streaming_content) if response.streaming else response.content
        assert response.status_code < 500, (url, body, said)
        assert b"Traceback" not in said and b"/apps/" not in said
        assert b".py" not in said or ".py" in url  # the answer may name what was asked for

    send()
