"""What the four agents of the workflow do: each takes what the one before found and hands on more. Plain functions of JSON.

    research(question, …)        a finding: what the documents answer, with its sources
    analyse(findings)            which of them hold, which say the same, what stays open, which figures they have
    write(topic, analysis, …)    an article that cites
    review(article, analysis)    whether each of its sentences stands in the source it cites
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from examples.jobs.answering import LLMClient, Passage, Prompt, answer
from examples.jobs.chunking import sentences
from examples.jobs.embedding import WordLlamaEmbedder

AGENTS = {
    "researcher": "finds what the documents say to a question",
    "analyst": "says which findings hold, which say the same, and what is missing",
    "writer": "makes an article of them",
    "reviewer": "checks each sentence against its source",
}
SUPPORTED = 0.6
"""Cosine similarity from which a sentence that is no quotation counts as said by its source."""
_CITED = re.compile(r"(.*?)((?:\s*\[\d+\])+)", re.S)
_NUMBER = re.compile(r"\[(\d+)\]")
_FIGURE = re.compile(r"\d[\d.,]*(?<=\d)(?: (?:°C|%|[a-z]+))?")

Json = dict[str, Any]


def research(question: str, search: Callable[[str], Sequence[Passage]], llm: LLMClient) -> Json:
    """`search` is the agent's tool."""
    found = answer(question, search(question), llm)
    return {"question": question, "answer": found.text, "known": found.known, "sources": found.sources}


def analyse(findings: Sequence[Json]) -> Json:
    """`{"findings": [{"questions", "answer"}, …], "open": questions, "sources": [...], "documents": {name: how many sources},
    "figures": [...]}`: questions with the same answer are one finding, and each source has one number in all of them."""
    held: dict[str, Json] = {}
    numbers: dict[tuple[str, str], int] = {}
    sources: list[Json] = []
    for finding in findings:
        if not finding["known"]:
            continue
        own = {}
        for source in finding["sources"]:
            at = (source["document"], source["text"])
            if at not in numbers:
                numbers[at] = len(sources) + 1
                sources.append({**source, "number": numbers[at]})
            own[source["number"]] = numbers[at]
        text = _NUMBER.sub(lambda match, own=own: f"[{own.get(int(match[1]), 0)}]", finding["answer"])
        held.setdefault(text, {"questions": [], "answer": text})["questions"].append(finding["question"])
    return {
        "findings": list(held.values()),
        "open": [finding["question"] for finding in findings if not finding["known"]],
        "sources": sources,
        "documents": dict(Counter(source["document"] for source in sources)),
        "figures": sorted({figure for text in held for figure in _FIGURE.findall(_NUMBER.sub("", text))}),
    }


def write(topic: str, analysis: Json, llm: LLMClient) -> str:
    """Markdown: the matter in short, a section for each finding, what stays open, the sources."""
    passages = [_passage(source) for source in analysis["sources"]]
    short = llm.complete(Prompt(question=topic, passages=passages)) if passages else ""
    lines = [f"# {topic}", "", *([short, ""] if _NUMBER.search(short) else [])]
    for finding in analysis["findings"]:
        lines += [f"## {' / '.join(finding['questions'])}", "", finding["answer"], ""]
    if analysis["open"]:
        lines += ["## What the documents do not say", "", *(f"- {question}" for question in analysis["open"]), ""]
    if analysis["sources"]:
        lines += ["## Sources", "", *(f"{source['number']}. {source['place']}" for source in analysis["sources"]), ""]
    return "\n".join(lines)


def review(article: str, analysis: Json) -> Json:
    """`{"approved": bool, "checked": sentences, "remarks": [what is wrong]}`. A sentence holds when it stands in what it cites, word
    for word or nearly in meaning; each question has to be in it."""
    sources = {source["number"]: source["text"] for source in analysis["sources"]}
    body = article.partition("\n## Sources")[0]
    prose = [line for line in body.splitlines() if line and not line.startswith(("#", "- "))]
    claims = [claim for line in prose for claim in _claims(line)]
    remarks = [remark for sentence, cited in claims if (remark := _remark(sentence, [sources.get(number) for number in cited]))]
    asked = [*(question for one in analysis["findings"] for question in one["questions"]), *analysis["open"]]
    remarks += [f"not in it: {question}" for question in asked if question not in article]
    if not claims:
        remarks.append("it says nothing")
    return {"approved": not remarks, "checked": len(claims), "remarks": remarks}


def _claims(line: str) -> list[tuple[str, list[int]]]:
    """Sentences with the numbers they cite; what is left without a citation cites nothing."""
    found = [(match[1].strip(), [int(number) for number in _NUMBER.findall(match[2])]) for match in _CITED.finditer(line)]
    rest = _CITED.sub("", line).strip()
    return [*found, *((sentence, []) for sentence in sentences(rest))]


def _remark(sentence: str, cited: Sequence[str | None]) -> str:
    if not cited:
        return f"cites nothing: {sentence}"
    if None in cited:
        return f"cites what is not there: {sentence}"
    if any(sentence in text for text in cited):
        return ""
    embedder = WordLlamaEmbedder()
    near = embedder.matrix([part for text in cited for part in sentences(text)]) @ embedder.matrix([sentence])[0]
    return "" if near.max(initial=0.0) >= SUPPORTED else f"is not what its source says: {sentence}"


def _passage(source: Json) -> Passage:
    return Passage(**{name: source[name] for name in ("document", "text", "heading", "page", "score")})
