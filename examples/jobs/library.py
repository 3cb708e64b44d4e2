"""Documents of an org in the platform's vector store: chunks with their place, found by what they mean.

    library = Library("acme")
    library.add("rights.pdf", data, by="acme:sam", now=now)          # load, chunk, embed, store
    library.search("May I leave my country?", limit=3)               # passages, nearest first

Where vectors are kept is the platform's matter (VECTOR_STORE: its own tables, pgvector, MongoDB). A document added again replaces
itself; one that has not changed costs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from apps.workflows.context.documents import Document, Documents, Draft, NoSuchDocument
from examples.jobs.answering import Passage
from examples.jobs.chunking import Chunk, chunks
from examples.jobs.embedding import WordLlamaEmbedder
from examples.jobs.loading import load

COLLECTION = "library"
BATCH = 100

Progress = Callable[[int, int], None]
"""Called with (chunks stored, chunks of the document)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of a document as a whole."""

    name: str
    chunks: int
    characters: int
    pages: int | None
    sha256: str


class Library:
    def __init__(self, org_id: str, collection: str = COLLECTION, *, embedder: Any = None) -> None:
        """Raises Invalid when `collection` is no name for one."""
        self._documents = Documents(org_id, embedder=embedder or WordLlamaEmbedder())
        self._collection, self._entries = collection, f"{collection}-documents"
        self._documents.check(self._entries, [])

    def add(self, name: str, data: bytes, *, by: str, now: datetime, progress: Progress = lambda done, total: None) -> Entry:
        """Raises Unreadable; VectorsAway, CollectionFull. Called again after it broke off, it goes on to the same end."""
        digest = hashlib.sha256(data).hexdigest()
        before = self.entry(name)
        if before and before.sha256 == digest:
            return before
        blocks = load(name, data)
        pieces = chunks(blocks)
        entry = Entry(
            name=name, chunks=len(pieces), characters=sum(len(block.text) for block in blocks),
            pages=max((block.page for block in blocks if block.page), default=None), sha256=digest,
        )  # fmt: skip
        for start in range(0, len(pieces), BATCH):
            drafts = [_draft(name, piece) for piece in pieces[start : start + BATCH]]
            self._documents.put_many(self._collection, drafts, by=by, now=now)
            progress(start + len(drafts), len(pieces))
        # The entry comes last: until then what was left of a longer version is still known, and deleted next time.
        self._forget(name, range(len(pieces), before.chunks if before else 0))
        self._documents.put(self._entries, _id(name), asdict(entry), by=by, now=now)
        return entry

    def remove(self, name: str) -> None:
        """Raises NoSuchDocument."""
        entry = Entry(**self._documents.get(self._entries, _id(name)).value)
        self._forget(name, range(entry.chunks))
        self._documents.delete(self._entries, _id(name))

    def entry(self, name: str) -> Entry | None:
        with contextlib.suppress(NoSuchDocument):
            return Entry(**self._documents.get(self._entries, _id(name)).value)
        return None

    def entries(self) -> list[Entry]:
        return sorted((Entry(**document.value) for document in self._walk()), key=lambda entry: entry.name)

    def search(self, question: str, *, limit: int = 4, document: str = "") -> list[Passage]:
        """Nearest first; with `document` only from that one."""
        wanted = {"value.document": document} if document else None
        return [_passage(hit.document, hit.score) for hit in self._documents.search(self._collection, question, limit=limit, filter=wanted)]

    def _forget(self, name: str, numbers: range) -> None:
        for number in numbers:
            with contextlib.suppress(NoSuchDocument):
                self._documents.delete(self._collection, _key(name, number))

    def _walk(self) -> Iterator[Document]:
        after: str | None = ""
        while after is not None:
            page = self._documents.list(self._entries, after=after, limit=BATCH)
            yield from page.documents
            after = page.following


def _draft(name: str, piece: Chunk) -> Draft:
    value = {"document": name, "number": piece.number, "heading": piece.heading, "page": piece.page, "text": piece.text}
    return Draft(key=_key(name, piece.number), value=value, text=piece.to_embed)


def _passage(document: Document, score: float) -> Passage:
    value = document.value
    return Passage(document=value["document"], text=value["text"], heading=value["heading"], page=value["page"], score=round(score, 4))


def _id(name: str) -> str:
    """Names of files are longer and stranger than keys may be."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _key(name: str, number: int) -> str:
    return f"{_id(name)}-{number:06}"
