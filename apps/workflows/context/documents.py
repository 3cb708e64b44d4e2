"""What an org lets its sessions look up: JSON documents under keys, in collections, with a text to search by.

    documents = Documents("acme")
    documents.put("notes", "n1", {"team": "blue"}, text="the boiler leaks", by="acme:sam", now=now)
    documents.find("notes", {"value.team": "blue"})      # the platform's filters (apps/roles/filters.py)
    documents.search("notes", "leaking boilers", limit=3)  # nearest first

Every call is of one org. A document without a text or a vector is not found by `search`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import orjson
from django.db.models import Count

from apps.core import bulk
from apps.core.errors import Conflict, Invalid, Missing, Problem
from apps.roles.filter_kinds import FREE, TEXT
from apps.roles.filter_matching import matches
from apps.roles.filters import Field, Node, read
from apps.workflows.context import embedding, vectors
from apps.workflows.context.embedding import Embedder
from apps.workflows.context.vectors import VectorIndex
from apps.workflows.models_context import ContextDocument

COLLECTION = re.compile("[A-Za-z0-9_-]{1,64}")
KEY_MAX = 180
BODY_MAX = 256 * 1024
"""bytes of a document as JSON; a page of them is held in memory"""
TEXT_MAX = 64 * 1024
DOCUMENTS_MAX = 100_000
"""in one collection"""
LIMIT_DEFAULT, LIMIT_MAX = 50, 200
SCANNED_MAX = 5_000
"""documents a filter looks at before it answers with what it has, and where to go on"""
NEAREST_MAX = 1_000
"""documents a search with a filter looks at"""
BATCH = 100

FIELDS = {"key": Field(kind=TEXT), "text": Field(kind=TEXT), "updated_by": Field(kind=TEXT), "value": Field(kind=FREE)}
"""What a filter may name; paths such as `value.team` go into the document."""


class NoSuchDocument(Missing):
    sentence = "There is no such document."


class CollectionFull(Conflict):
    code, sentence = "collection_full", f"The collection has {DOCUMENTS_MAX} documents already."


@dataclass(frozen=True, kw_only=True)
class Document:
    collection: str
    key: str
    value: dict[str, Any]
    text: str
    created_at: datetime
    updated_at: datetime
    updated_by: str

    @property
    def facts(self) -> dict[str, Any]:
        """What a filter sees."""
        return {"key": self.key, "text": self.text, "updated_by": self.updated_by, "value": self.value}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A document to be."""

    key: str
    value: dict[str, Any]
    text: str = ""
    vector: Sequence[float] | None = None
    """Instead of one made from the text."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    score: float
    """Cosine similarity, -1 … 1."""
    document: Document


@dataclass(frozen=True, kw_only=True)
class Page:
    documents: list[Document]
    following: str | None
    """The key to go on after; None: this was all."""


class Documents:
    def __init__(self, org_id: str, *, index: VectorIndex | None = None, embedder: Embedder | None = None) -> None:
        self.org_id = org_id
        self._given = index, embedder

    @cached_property
    def _index(self) -> VectorIndex:
        return self._given[0] or vectors.index()

    @cached_property
    def _embedder(self) -> Embedder:
        return self._given[1] or embedding.embedder()

    # ---- one by one ----

    def get(self, collection: str, key: str) -> Document:
        """Raises NoSuchDocument."""
        row = ContextDocument.objects.filter(pk=self._id(collection, key)).first()
        if row is None:
            raise NoSuchDocument(collection=collection, key=key)
        return _document(row)

    def put(
        self,
        collection: str,
        key: str,
        value: dict[str, Any],
        *,
        text: str = "",
        vector: Sequence[float] | None = None,
        by: str,
        now: datetime,
    ) -> tuple[Document, bool]:
        """Make or replace; (the document, whether it is new). Raises Invalid, CollectionFull, VectorsAway."""
        draft = Draft(key=key, value=value, text=text, vector=vector)
        new = self.put_many(collection, [draft], by=by, now=now)
        return self.get(collection, key), bool(new)

    def put_many(self, collection: str, drafts: Sequence[Draft], *, by: str, now: datetime, where: str = "") -> set[str]:
        """Make or replace all; the keys that are new. All are looked at before the first is stored; `where` is what problems
        call the list."""
        self.check(collection, drafts, where)
        rows = {draft.key: self._row(collection, draft, by, now) for draft in drafts}
        there = set(self._rows(collection).filter(key__in=list(rows)).values_list("key", flat=True))
        if self._rows(collection).count() + len(rows.keys() - there) > DOCUMENTS_MAX:
            raise CollectionFull(collection=collection)
        # Vectors first: one without its document is not found, a document without its vector would not be either, for good.
        self._vectorize(collection, drafts)
        self._store(rows, there)
        return rows.keys() - there

    def delete(self, collection: str, key: str) -> None:
        """Raises NoSuchDocument."""
        deleted, _ = ContextDocument.objects.filter(pk=self._id(collection, key)).delete()
        if not deleted:
            raise NoSuchDocument(collection=collection, key=key)
        self._index.remove(self.org_id, collection, [key])

    # ---- many ----

    def collections(self) -> dict[str, int]:
        """Name and size of each."""
        found = ContextDocument.objects.filter(org_id=self.org_id).values("collection").annotate(size=Count("pk")).order_by("collection")
        return {row["collection"]: row["size"] for row in found}

    def list(self, collection: str, *, after: str = "", limit: int = LIMIT_DEFAULT) -> Page:
        """In the order of keys."""
        found = list(self._rows(collection).filter(key__gt=after).order_by("key")[: limit + 1])
        return Page(documents=[_document(row) for row in found[:limit]], following=found[limit - 1].key if len(found) > limit else None)

    def find(self, collection: str, filter: Any, *, after: str = "", limit: int = LIMIT_DEFAULT) -> Page:
        """Those that match, in the order of keys. A page may be short, or empty, and still have a following one: each
        looks at no more than SCANNED_MAX documents. Raises BadFilter."""
        tree = read(filter, FIELDS)
        found: list[Document] = []
        seen = after
        for count, document in enumerate(self._walk(collection, after), 1):
            if len(found) == limit or count > SCANNED_MAX:
                return Page(documents=found, following=seen)
            seen = document.key
            if matches(tree, document.facts):
                found.append(document)
        return Page(documents=found, following=None)

    def search(self, collection: str, wanted: str | Sequence[float], *, limit: int = 10, filter: Any = None) -> list[Hit]:
        """The nearest first. With a filter, those of the nearest NEAREST_MAX that match. Raises BadFilter, Invalid, VectorsAway."""
        tree = None if filter is None else read(filter, FIELDS)
        vector = self._embedded([wanted])[0] if isinstance(wanted, str) else self._vector("vector", wanted)
        if not any(vector):
            return []
        asked = limit
        while True:
            asked = min(asked, NEAREST_MAX)
            near = self._index.nearest(self.org_id, collection, vector, asked)
            hits = self._hits(collection, near, tree)
            # Documents that were deleted meanwhile, or do not match, leave room for further ones.
            if len(hits) >= limit or len(near) < asked or asked == NEAREST_MAX:
                return hits[:limit]
            asked *= 5

    def reindex(self, collection: str) -> int:
        """Make the vectors of a collection again from its texts, after another embedder or vector store was configured; how
        many. Vectors that were given, not made, have to be given again."""
        done = 0
        for start in self._batches(collection):
            drafts = [Draft(key=document.key, value=document.value, text=document.text) for document in start]
            self._vectorize(collection, drafts)
            done += sum(bool(draft.text) for draft in drafts)
        return done

    # ---- inside ----

    def _id(self, collection: str, key: str) -> str:
        return f"{self.org_id}/{collection}/{key}"

    def _rows(self, collection: str) -> Any:
        return ContextDocument.objects.filter(org_id=self.org_id, collection=collection)

    def _row(self, collection: str, draft: Draft, by: str, now: datetime) -> ContextDocument:
        return ContextDocument(
            id=self._id(collection, draft.key),
            org_id=self.org_id,
            collection=collection,
            key=draft.key,
            body=orjson.dumps(draft.value).decode(),
            text=draft.text,
            created_at=now,
            updated_at=now,
            updated_by=by,
        )

    def _store(self, rows: Mapping[str, ContextDocument], there: Collection[str]) -> None:
        # One that somebody else makes meanwhile is left as they made it: of two who put at once, one is the last.
        bulk.insert_missing([row for key, row in rows.items() if key not in there])
        for key in there:
            fields = {name: getattr(rows[key], name) for name in ("body", "text", "updated_at", "updated_by")}
            ContextDocument.objects.filter(pk=rows[key].pk).update(**fields)

    def _vectorize(self, collection: str, drafts: Sequence[Draft]) -> None:
        given = {draft.key: list(draft.vector) for draft in drafts if draft.vector is not None}
        texts = {draft.key: draft.text for draft in drafts if draft.text and draft.key not in given}
        made = dict(zip(texts, self._embedded(list(texts.values())), strict=True))
        found = {key: vector for key, vector in {**given, **made}.items() if any(vector)}
        self._index.put(self.org_id, collection, found)
        if bare := [draft.key for draft in drafts if draft.key not in found]:
            self._index.remove(self.org_id, collection, bare)

    def _embedded(self, texts: Sequence[str]) -> list[Sequence[float]]:
        return list(self._embedder.embed(texts)) if texts else []

    def _hits(self, collection: str, near: Sequence[vectors.Near], tree: Node | None) -> list[Hit]:
        scores = {one.key: one.score for one in near}
        rows = {row.key: _document(row) for row in self._rows(collection).filter(key__in=list(scores))}
        found = [Hit(score=score, document=rows[key]) for key, score in scores.items() if key in rows]
        return found if tree is None else [hit for hit in found if matches(tree, hit.document.facts)]

    def _walk(self, collection: str, after: str) -> Iterator[Document]:
        for batch in self._batches(collection, after):
            yield from batch

    def _batches(self, collection: str, after: str = "") -> Iterator[Sequence[Document]]:
        while True:
            page = self.list(collection, after=after, limit=BATCH)
            yield page.documents
            if page.following is None:
                return
            after = page.following

    def check(self, collection: str, drafts: Sequence[Draft], where: str = "") -> None:
        """Whether they may be put. Raises Invalid with the problems."""
        problems = []
        if not COLLECTION.fullmatch(collection):
            problems.append(_problem("collection", "bad_value", "must be 1 to 64 letters, digits, _ or -"))
        seen = set()
        for place, draft in enumerate(drafts):
            here = f"{where}.{place}." if where else ""
            problems += _problems(draft, here)
            if draft.vector is not None:
                problems += self._vector_problems(f"{here}vector", draft.vector)
            if str(draft.key) in seen:
                problems.append(_problem(f"{here}key", "repeated", "is that of another one too"))
            seen.add(str(draft.key))
        if problems:
            raise Invalid(problems[:20])

    def _vector(self, field: str, vector: Sequence[float]) -> Sequence[float]:
        if problems := self._vector_problems(field, vector):
            raise Invalid(problems)
        return vector

    def _vector_problems(self, field: str, vector: Any) -> list[Problem]:
        dims = self._embedder.dims
        plain = isinstance(vector, list | tuple) and all(type(value) in (int, float) and abs(value) < 1e30 for value in vector)
        if not plain or len(vector) != dims:
            return [_problem(field, "bad_vector", f"must be a list of {dims} finite numbers")]
        return [] if any(vector) else [_problem(field, "bad_vector", "must not be all zero")]


def _document(row: ContextDocument) -> Document:
    return Document(
        collection=row.collection,
        key=row.key,
        value=orjson.loads(row.body),
        text=row.text,
        created_at=row.created_at,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


def _problem(field: str, code: str, message: str) -> Problem:
    return Problem(field=field, code=code, message=message)


def _problems(draft: Draft, where: str) -> Iterable[Problem]:
    key: Any = draft.key
    if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX or not key.isprintable() or key != key.strip() or "/" in key:
        message = f"must be 1 to {KEY_MAX} printable characters without a slash, and without spaces at its ends"
        yield _problem(f"{where}key", "bad_value", message)
    if not isinstance(draft.value, Mapping):
        yield _problem(f"{where}value", "wrong_type", "must be an object")
    else:
        try:
            if len(orjson.dumps(draft.value)) > BODY_MAX:
                yield _problem(f"{where}value", "too_long", f"must have at most {BODY_MAX} bytes as JSON")
        except TypeError as error:
            yield _problem(f"{where}value", "not_json", f"is not JSON: {str(error)[:200]}")
    if not isinstance(draft.text, str) or len(draft.text) > TEXT_MAX or "\0" in draft.text:
        yield _problem(f"{where}text", "bad_value", f"must be a string of at most {TEXT_MAX} characters, without NUL")
