"""ContextInfo: all that the work of a session may look at, in one object.

    info = ContextInfo("acme", "acme/s1")
    info.context                                # what the session knows now
    info.query_vector_database("leaking boilers", limit=3)
    info.query_user_context("sam")              # the document of that user
    info.query_outputs(["report"])              # what steps wrote, with who wrote it
    info.to_json()

The collections it reads are those of the org (`documents.py`): `documents` for vector search, `nodes`, `messages`,
`user_context`, `user_forms`, `models`; people write them over `/api/v1/context` or seed them with `seed_data`. Agents and
outputs are no copies: they are the org's subjects and the session's own context. Nothing of another org can be reached.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import orjson

from apps.core import clock, ids
from apps.core.errors import Invalid, Problem
from apps.roles.documents import subject_json
from apps.roles.filter_kinds import FLAG, FREE, TEXT, TEXTS
from apps.roles.filter_matching import matches
from apps.roles.filters import Field, read
from apps.roles.models import Subject
from apps.workflows.context.context import SUBMITTED, ContextStore
from apps.workflows.context.documents import Document, Documents, Draft, Hit, NoSuchDocument

VECTORS, NODES, MESSAGES = "documents", "nodes", "messages"
USER_CONTEXT, USER_FORMS, MODELS = "user_context", "user_forms", "models"
DEPTH_MAX = 64
JSON_MAX = 4 * 1024 * 1024
"""characters that `to_json` and `_safe_json_dumps` answer with, at most"""
OUTPUT_MAX = 256 * 1024
"""characters of one value in `prepare_context_for_output`"""
AGENTS_MAX = 10_000
SEED_MAX = 1_000
"""documents of one collection in one call"""

AGENT_FIELDS = {
    "subject_id": Field(kind=TEXT), "name": Field(kind=TEXT), "capabilities": Field(kind=TEXTS), "is_active": Field(kind=FLAG),
    "role_ids": Field(kind=TEXTS), "metadata": Field(kind=FREE),
}  # fmt: skip


class ContextInfo:
    """`context` is read from the session when it is not given; changing it here changes nothing in the session: what a step
    hands on is its result."""

    def __init__(
        self,
        org_id: str,
        session_key: str = "",
        *,
        context: Mapping[str, Any] | None = None,
        at_version: int | None = None,
        documents: Documents | None = None,
    ) -> None:
        if "/" in org_id:
            raise ValueError("An org id holds no slash: see of_session.")
        if session_key and not session_key.startswith(f"{org_id}/"):
            raise ValueError("The session is of another org.")
        self.org_id, self.session_key = org_id, session_key
        self._at_version = at_version
        self._context_manager = ContextStore()
        self._user_context_manager = documents
        self._context: dict[str, Any] | None = None if context is None else dict(context)

    @classmethod
    def of_session(cls, session_key: str, **given: Any) -> ContextInfo:
        return cls(ids.split_task_key(session_key)[0], session_key, **given)

    @property
    def context(self) -> dict[str, Any]:
        """As of `at_version`, or now; read once, when first asked for."""
        if self._context is None:
            self._context = self._context_manager.read(self.session_key, at_version=self._at_version) if self.session_key else {}
        return self._context

    @property
    def documents(self) -> Documents:
        if self._user_context_manager is None:
            self._user_context_manager = Documents(self.org_id)
        return self._user_context_manager

    # ---- queries ----

    def query_vector_database(
        self, query: str | Sequence[float], *, limit: int = 10, filter: Any = None, collection: str = VECTORS
    ) -> list[dict[str, Any]]:
        """The documents nearest to a text or a vector: `{key, score, value, text}`, nearest first."""
        return [hit_json(hit) for hit in self.documents.search(collection, query, limit=limit, filter=filter)]

    def query_nodes(self, filter: Any = None, *, limit: int = 50) -> list[dict[str, Any]]:
        return self._found(NODES, filter, limit)

    def query_messages(self, filter: Any = None, *, limit: int = 50) -> list[dict[str, Any]]:
        """In the order of their keys; keys that begin with the time are read in the order of time."""
        return self._found(MESSAGES, filter, limit)

    def query_user_context(self, user_id: str) -> dict[str, Any]:
        """What is known of a user; {} when nothing is."""
        try:
            return self.documents.get(USER_CONTEXT, user_id).value
        except NoSuchDocument:
            return {}

    def query_user_forms(self, user_id: str, filter: Any = None, *, limit: int = 50) -> list[dict[str, Any]]:
        """Forms whose `user_id` is that user's."""
        mine = {"value.user_id": user_id}
        return self._found(USER_FORMS, mine if filter is None else {"$and": [mine, filter]}, limit)

    def query_models(self, filter: Any = None, *, limit: int = 50) -> list[dict[str, Any]]:
        return self._found(MODELS, filter, limit)

    def query_agents(self, filter: Any = None, *, limit: int = 50) -> list[dict[str, Any]]:
        """The org's active agents: subject_id, name, capabilities, role_ids, metadata. Filters name these fields."""
        tree = read({} if filter is None else filter, AGENT_FIELDS)
        rows = Subject.objects.filter(org_id=self.org_id, subject_type=Subject.Type.AGENT, is_active=True).order_by("subject_id")
        found: list[dict[str, Any]] = []
        for row in rows.prefetch_related("roles_held__role")[:AGENTS_MAX]:
            agent = subject_json(row)
            agent = {name: agent.get(name, {} if name == "metadata" else "") for name in AGENT_FIELDS}
            if matches(tree, agent):
                found.append(agent)
            if len(found) == limit:
                break
        return found

    def query_outputs(self, keys: Collection[str] | None = None) -> list[dict[str, Any]]:
        """What steps of this session wrote: `{key, value, version, written_by, at}`, in the order of writing. What the session
        was submitted with is no output."""
        if not self.session_key:
            return []
        at_version = self._at_version
        found = []
        writes = self._context_manager.writes(self.session_key, at_version)
        last = {key: write for write in writes for key in write.keys if keys is None or key in keys}
        values = self._context_manager.read(self.session_key, list(last), at_version)
        for key, write in sorted(last.items(), key=lambda item: item[1].version):
            if write.writer != SUBMITTED and key in values:
                at = clock.iso(write.at)
                found.append({"key": key, "value": values[key], "version": write.version, "written_by": write.writer, "at": at})
        return found

    # ---- in and out ----

    def seed_data(self, collections: Mapping[str, Sequence[Mapping[str, Any]]], *, by: str, now: datetime) -> dict[str, int]:
        """Put documents, `{collection: [{key, value, text?, vector?}, …]}`; how many of each are new. Twice is harmless. All
        are looked at before the first is stored. Raises Invalid."""
        drafts = {name: read_drafts(name[:80], given) for name, given in collections.items()}
        for name, given in drafts.items():
            self.documents.check(name, given, name[:80])
        return {name: len(self.documents.put_many(name, given, by=by, now=now, where=name[:80])) for name, given in drafts.items()}

    def validate_context_structure(self, context: Any = None) -> list[Problem]:
        """What is wrong with a context (default: this one) as the context of a session; [] when nothing is."""
        given = self.context if context is None else context
        if not isinstance(given, Mapping):
            return [Problem(field="context", code="wrong_type", message="must be an object")]
        return [problem for key, value in given.items() for problem in _wrong(f"context.{key}"[:200], key, value)][:20]

    def to_json(self) -> str:
        """The context as JSON, always valid, and bounded: values that do not fit are said to be left out."""
        return self._safe_json_dumps(self.prepare_context_for_output())

    def prepare_context_for_output(self, keys: Collection[str] | None = None, *, value_max: int = OUTPUT_MAX) -> dict[str, Any]:
        """The context as plain JSON values that may be shown or sent. One longer than `value_max` characters is replaced by
        `{"$omitted": <its characters>}`."""
        chosen = self.context if keys is None else {key: self.context[key] for key in keys if key in self.context}
        out: dict[str, Any] = {}
        for key, value in chosen.items():
            text = _dumps(value)
            out[str(key)] = json.loads(text) if len(text) <= value_max else {"$omitted": len(text)}
        return out

    @staticmethod
    def _safe_json_dumps(value: Any, limit: int = JSON_MAX) -> str:
        """JSON of anything; never raises. What JSON has not becomes text, NaN becomes null, and what is longer than `limit`
        becomes a note that says so."""
        text = _dumps(value)
        return text if len(text) <= limit else _dumps({"$omitted": len(text)})

    def _found(self, collection: str, filter: Any, limit: int) -> list[dict[str, Any]]:
        found: list[Document] = []
        after: str | None = ""
        while after is not None and len(found) < limit:
            page = self.documents.find(collection, {} if filter is None else filter, after=after, limit=limit - len(found))
            found += page.documents
            after = page.following
        return [document_json(document) for document in found]


def document_json(document: Document) -> dict[str, Any]:
    return {
        "key": document.key,
        "value": document.value,
        "text": document.text,
        "updated_at": clock.iso(document.updated_at),
        "updated_by": document.updated_by,
    }


def hit_json(hit: Hit) -> dict[str, Any]:
    return {"score": round(hit.score, 6), **document_json(hit.document)}


def read_drafts(name: str, given: Any) -> list[Draft]:
    """Documents as they come from outside, `[{key, value, text?, vector?}, …]`. Raises Invalid, naming the place in `name`."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) > SEED_MAX:
        raise Invalid([Problem(field=name, code="wrong_type", message=f"must be a list of at most {SEED_MAX} documents")])
    problems, drafts = [], []
    for place, one in enumerate(given):
        where = f"{name}.{place}"
        if not isinstance(one, Mapping):
            problems.append(Problem(field=where, code="wrong_type", message="must be an object"))
            continue
        strange = [field for field in one if field not in {"key", "value", "text", "vector"}]
        problems += [Problem(field=f"{where}.{str(field)[:64]}", code="unknown", message="is not known here") for field in strange]
        missing = [field for field in ("key", "value") if field not in one]
        problems += [Problem(field=f"{where}.{field}", code="missing", message="is required") for field in missing]
        if not strange and not missing:
            drafts.append(Draft(key=one["key"], value=one["value"], text=one.get("text", ""), vector=one.get("vector")))
    if problems:
        raise Invalid(problems[:20])
    return drafts


def _wrong(where: str, key: Any, value: Any) -> list[Problem]:
    if not isinstance(key, str) or not key or not key.isprintable():
        return [Problem(field=where, code="bad_key", message="must be named by printable characters")]
    try:
        text = orjson.dumps(value)
    except TypeError as error:
        return [Problem(field=where, code="not_json", message=f"is not JSON: {str(error)[:200]}")]
    if b"null" in text and _has_nan(value):
        return [Problem(field=where, code="not_json", message="is not JSON: NaN or Infinity")]
    return []


def _has_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return any(map(_has_nan, parts))


def _dumps(value: Any) -> str:
    return json.dumps(_plain(value, 0), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any, depth: int) -> Any:
    """Only what JSON has."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if depth >= DEPTH_MAX:
        return "…"
    if isinstance(value, Mapping):
        return {str(_plain(key, DEPTH_MAX) if isinstance(key, str) else key): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one, depth + 1) for one in value]
    if isinstance(value, datetime):
        return clock.iso(value) if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    try:
        return str(value).encode("utf-8", "replace").decode()
    except Exception as error:  # somebody else's __str__: this method promises an answer
        return f"<{type(value).__name__}: {type(error).__name__}>"
