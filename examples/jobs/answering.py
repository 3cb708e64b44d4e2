"""A question and the passages found for it, to an answer that names its sources.

The model is behind `LLMClient`: it gets a prompt and writes text that cites passages as [1], [2]. The default quotes: it needs no
network, and says nothing that does not stand in a passage. A model of yours speaks OpenAI's protocol (vLLM, llama.cpp, Ollama, a cloud):

    EXAMPLES_LLM_URL=http://127.0.0.1:11434/v1 EXAMPLES_LLM_MODEL=qwen3 EXAMPLES_LLM_KEY=…
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from examples.jobs.chunking import sentences
from examples.jobs.embedding import WordLlamaEmbedder

UNKNOWN = "The documents do not say."
SURE = 0.28
"""Below it quoting would be guessing: questions about other matters stay there. The mean of two cosine similarities with the question:
the sentence's and its passage's."""
SECOND = 0.85
"""A second sentence is quoted when it is about as near as the first."""
LLM_SECONDS = 120.0
_CITATION = re.compile(r"\[(\d+)\]")
_ENUMERATION = re.compile(r"^\d\.\s+")


@dataclass(frozen=True, kw_only=True)
class Passage:
    document: str
    text: str
    heading: str = ""
    page: int | None = None
    score: float = 0.0
    """Cosine similarity with the question, -1 … 1."""

    @property
    def place(self) -> str:
        parts = [self.heading, f"page {self.page}" if self.page else ""]
        return ", ".join([self.document, *filter(None, parts)])


@dataclass(frozen=True, kw_only=True)
class Prompt:
    question: str
    passages: Sequence[Passage]

    @property
    def text(self) -> str:
        """For models that read."""
        known = "\n\n".join(f"[{number}] ({passage.place})\n{passage.text}" for number, passage in enumerate(self.passages, 1))
        return (
            "Answer the question in at most three sentences, only from the numbered passages, and cite each one you use like [1]. "
            f'If they do not answer it, write exactly "{UNKNOWN}"\n\n{known}\n\nQuestion: {self.question}'
        )


class LLMClient(Protocol):
    def complete(self, prompt: Prompt) -> str:
        """Text that cites the prompt's passages as [1], [2]; or UNKNOWN. May raise: the job fails, or is tried again."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    text: str
    known: bool
    sources: list[dict[str, Any]]
    """The passages that the text cites, each with its `number` and `place`."""


def answer(question: str, passages: Sequence[Passage], llm: LLMClient) -> Answer:
    text = llm.complete(Prompt(question=question, passages=passages)).strip() if passages else UNKNOWN
    cited = sorted({number for one in _CITATION.findall(text) if 0 < (number := int(one)) <= len(passages)})
    sources = [{"number": number, "place": passages[number - 1].place, **asdict(passages[number - 1])} for number in cited]
    return Answer(text=text, known=bool(sources), sources=sources)


class Quoting:
    """An `LLMClient` without a model of language: the sentences of the passages that are nearest to the question, as they stand."""

    def __init__(self, *, most: int = 2) -> None:
        self._most, self._embedder = most, WordLlamaEmbedder()

    def complete(self, prompt: Prompt) -> str:
        found = [(place, sentence) for place, passage in enumerate(prompt.passages) for sentence in sentences(passage.text)]
        if not found:
            return UNKNOWN
        question = self._embedder.matrix([prompt.question])[0]
        alone = self._embedder.matrix([sentence for _, sentence in found]) @ question
        headed = self._embedder.matrix([f"{prompt.passages[place].heading}. {sentence}" for place, sentence in found]) @ question
        # A sentence is read in its passage: of two that are as near, the one from the nearer passage speaks.
        near = [(float(max(pair)) + prompt.passages[found[row][0]].score) / 2 for row, pair in enumerate(zip(alone, headed, strict=True))]
        enough = max(SURE, SECOND * max(near))
        quoted: dict[str, int] = {}
        for row in sorted(range(len(found)), key=near.__getitem__, reverse=True):
            place, sentence = found[row]
            if near[row] >= enough and len(quoted) < self._most:
                quoted.setdefault(_ENUMERATION.sub("", sentence), place + 1)
        return " ".join(f"{sentence} [{number}]" for sentence, number in quoted.items()) or UNKNOWN


class OpenAICompatible:
    """An `LLMClient` for anything that answers POST {url}/chat/completions."""

    def __init__(self, url: str, model: str, *, key: str = "", seconds: float = LLM_SECONDS) -> None:
        self._url, self._model, self._key, self._seconds = url.rstrip("/"), model, key, seconds

    def complete(self, prompt: Prompt) -> str:
        """Raises httpx.HTTPError, and ValueError when the answer is none of that protocol."""
        import httpx

        body = {"model": self._model, "temperature": 0, "messages": [{"role": "user", "content": prompt.text}]}
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        said = httpx.post(f"{self._url}/chat/completions", json=body, headers=headers, timeout=self._seconds)
        said.raise_for_status()
        try:
            return str(said.json()["choices"][0]["message"]["content"])
        except (LookupError, TypeError):
            raise ValueError("The model's server answered, but not as OpenAI's protocol has it.") from None


def llm() -> LLMClient:
    """The one that the environment names, else the quoting one."""
    if url := os.environ.get("EXAMPLES_LLM_URL"):
        return OpenAICompatible(url, os.environ.get("EXAMPLES_LLM_MODEL", ""), key=os.environ.get("EXAMPLES_LLM_KEY", ""))
    return Quoting()
