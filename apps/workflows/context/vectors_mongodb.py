"""Vector search by MongoDB's own `$vectorSearch` (Atlas, or MongoDB 8.2 and newer with its search process `mongot`).

One collection, one search index over cosine similarity with org and collection as its filters. The index follows writes with
a delay of about a second: what was put a moment ago may not be found yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo import MongoClient, ReplaceOne
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.operations import SearchIndexModel

from apps.workflows.context.vectors import Near, VectorsAway

COLLECTION = "context_vectors"
INDEX = "context_vectors_cosine"
CANDIDATES_MAX = 10_000
"""MongoDB's bound."""
_TAKEN = 68
"""IndexAlreadyExists."""


class MongoIndex:
    def __init__(self, url: str) -> None:
        self._client: MongoClient = MongoClient(url, serverSelectionTimeoutMS=3000, connect=False)
        self._collection = self._client.get_default_database("jobplatform")[COLLECTION]
        self._ensured = False

    def ensure(self, dims: int) -> None:
        if self._ensured:
            return
        try:
            self._collection.create_search_index(SearchIndexModel(definition=definition(dims), name=INDEX, type="vectorSearch"))
        except OperationFailure as error:
            if error.code != _TAKEN and "already" not in str(error).lower():
                raise _away(error) from error
        except PyMongoError as error:
            raise _away(error) from error
        self._ensured = True

    def put(self, org_id: str, collection: str, vectors: Mapping[str, Sequence[float]]) -> None:
        if not vectors:
            return
        self.ensure(len(next(iter(vectors.values()))))
        try:
            self._collection.bulk_write(replacements(org_id, collection, vectors), ordered=False)
        except PyMongoError as error:
            raise _away(error) from error

    def remove(self, org_id: str, collection: str, keys: Iterable[str]) -> None:
        try:
            self._collection.delete_many({"_id": {"$in": [_id(org_id, collection, key) for key in keys]}})
        except PyMongoError as error:
            raise _away(error) from error

    def nearest(self, org_id: str, collection: str, vector: Sequence[float], limit: int) -> list[Near]:
        try:
            self.ensure(len(vector))
            found = [near(document) for document in self._collection.aggregate(pipeline(org_id, collection, vector, limit))]
        except PyMongoError as error:
            raise _away(error) from error
        return sorted(found, key=lambda one: (-one.score, one.key))


def definition(dims: int) -> dict[str, Any]:
    return {
        "fields": [
            {"type": "vector", "path": "vector", "numDimensions": dims, "similarity": "cosine"},
            {"type": "filter", "path": "org_id"},
            {"type": "filter", "path": "collection"},
        ]
    }


def pipeline(org_id: str, collection: str, vector: Sequence[float], limit: int) -> list[dict[str, Any]]:
    search = {
        "index": INDEX,
        "path": "vector",
        "queryVector": [float(value) for value in vector],
        "numCandidates": min(CANDIDATES_MAX, max(100, 20 * limit)),
        "limit": limit,
        "filter": {"$and": [{"org_id": {"$eq": org_id}}, {"collection": {"$eq": collection}}]},
    }
    return [{"$vectorSearch": search}, {"$project": {"_id": 0, "key": 1, "score": {"$meta": "vectorSearchScore"}}}]


def near(document: Mapping[str, Any]) -> Near:
    """MongoDB's score is (1 + cosine) / 2."""
    return Near(key=document["key"], score=min(1.0, max(-1.0, 2 * float(document["score"]) - 1)))


def replacements(org_id: str, collection: str, vectors: Mapping[str, Sequence[float]]) -> list[ReplaceOne]:
    return [
        ReplaceOne(
            {"_id": _id(org_id, collection, key)},
            {"org_id": org_id, "collection": collection, "key": key, "vector": [float(value) for value in vector]},
            upsert=True,
        )
        for key, vector in vectors.items()
    ]


def _id(org_id: str, collection: str, key: str) -> str:
    return f"{org_id}/{collection}/{key}"


def _away(error: PyMongoError) -> VectorsAway:
    return VectorsAway(problem=str(error)[:200])
