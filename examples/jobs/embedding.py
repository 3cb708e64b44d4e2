"""Text to vectors that are near when texts mean the like, with a small model that a package ships: no network, no GPU.

The weights are those of WordLlama (one vector of 256 numbers for each of 32,000 tokens, trained so that their mean stands for a text;
MIT licence). Its own loader asks the network for a tokenizer; the wheel has it too, so both files are read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy

from examples.jobs.extras import need

PACKAGE = "wordllama"
WEIGHTS, TOKENS = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"


class WordLlamaEmbedder:
    """An `Embedder` of the platform: also what TEXT_EMBEDDER=examples.jobs.embedding.WordLlamaEmbedder means."""

    dims = 256

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Unit vectors; a text without a word is all zero."""
        return self.matrix(texts).tolist()

    def matrix(self, texts: Sequence[str]) -> numpy.ndarray:
        """Shape (texts, 256), float32."""
        vectors, tokenizer = model()
        found = numpy.zeros((len(texts), self.dims), dtype=numpy.float32)
        for place, tokens in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            if tokens.ids:
                mean = vectors[tokens.ids].astype(numpy.float32).mean(axis=0)
                found[place] = mean / (numpy.linalg.norm(mean) or 1.0)
        return found


@lru_cache(maxsize=1)
def model() -> tuple[numpy.ndarray, Any]:
    """(vectors of shape (32000, 256), tokenizer): 16 MB, once per process. Raises ImportError with the line that mends it."""
    folder = _folder()
    tokenizer = need("tokenizers").Tokenizer.from_file(str(folder / TOKENS))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return need("safetensors.numpy").load_file(folder / WEIGHTS)["embedding.weight"], tokenizer


def _folder() -> Path:
    """Of the package, without importing it: all we want of it are two files."""
    spec = find_spec(PACKAGE)
    return Path((spec.origin if spec else None) or need(PACKAGE).__file__).parent
