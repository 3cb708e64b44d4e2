"""Text to vectors. The port is a class with `dims` and `embed`; `TEXT_EMBEDDER` names one by its dotted path.

The default compares words, not meanings (`embedding_hashing.py`). Whoever wants meanings names a class that calls their model:

    class Ours:
        dims = 1024

        def embed(self, texts):
            return [our_model(text) for text in texts]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string


class Embedder(Protocol):
    dims: int

    def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """A vector of `dims` numbers for each text. May raise what it likes: nothing is stored then."""


def embedder() -> Embedder:
    return _made(settings.TEXT_EMBEDDER)


@lru_cache(maxsize=4)
def _made(path: str) -> Embedder:
    return import_string(path)()
