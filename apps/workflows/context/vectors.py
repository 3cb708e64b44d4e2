"""Vector search: which documents of a collection are nearest to a vector. A port with three homes, chosen by `VECTOR_STORE`:

    (empty)           embedded: exact search over the vectors in the task store (`vectors_exact.py`)
    postgresql://…    pgvector, with an HNSW index (`vectors_postgresql.py`)
    mongodb://…       MongoDB's own `$vectorSearch` (`vectors_mongodb.py`)

Vectors are derived from documents and may be made again (`Documents.reindex`). Scores are cosine similarities, -1 … 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from django.conf import settings

from apps.core.errors import Unavailable


class VectorsAway(Unavailable):
    sentence = "The vector store cannot answer right now."


@dataclass(frozen=True, kw_only=True, slots=True)
class Near:
    key: str
    score: float
    """Cosine similarity, -1 … 1."""


class VectorIndex(Protocol):
    def ensure(self, dims: int) -> None:
        """Make what is missing (tables, indexes). Twice is harmless. Raises VectorsAway."""

    def put(self, org_id: str, collection: str, vectors: Mapping[str, Sequence[float]]) -> None:
        """A vector per key, in place of an older one. None of them is zero. Raises VectorsAway."""

    def remove(self, org_id: str, collection: str, keys: Iterable[str]) -> None:
        """Raises VectorsAway."""

    def nearest(self, org_id: str, collection: str, vector: Sequence[float], limit: int) -> list[Near]:
        """Nearest first, of equal ones by key. Raises VectorsAway."""


def index() -> VectorIndex:
    return _made(settings.VECTOR_STORE)


@lru_cache(maxsize=4)
def _made(url: str) -> VectorIndex:
    # Imported when needed: most processes never search.
    if url.startswith(("postgres://", "postgresql://")):
        from apps.workflows.context.vectors_postgresql import PostgresIndex

        return PostgresIndex(url)
    if url.startswith(("mongodb://", "mongodb+srv://")):
        from apps.workflows.context.vectors_mongodb import MongoIndex

        return MongoIndex(url)
    if url:
        raise ValueError("VECTOR_STORE must be empty, postgresql://… or mongodb://…")
    from apps.workflows.context.vectors_exact import ExactIndex

    return ExactIndex()
