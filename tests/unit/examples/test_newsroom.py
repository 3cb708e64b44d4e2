"""Research, analysis, writing, review: each agent's part, and a reviewer who finds what was slipped in."""

from __future__ import annotations

import pytest

from examples.jobs import newsroom
from examples.jobs.answering import Passage, Quoting

MARS = {"number": 1, "place": "planets.docx, Mars", "document": "planets.docx", "heading": "Mars", "page": None, "score": 0.5,
        "text": "Olympus Mons on Mars, about 22 km high, is the tallest volcano. Two small moons go around it."}  # fmt: skip
LEAD = {**MARS, "number": 2, "place": "planets.docx, Venus", "heading": "Venus", "text": "Venus is hot enough to melt lead."}


def finding(question: str, answer: str = "", *sources: dict) -> dict:
    return {"question": question, "answer": answer, "known": bool(sources), "sources": list(sources)}


FINDINGS = [
    finding("Where is the highest volcano?", "Olympus Mons on Mars, about 22 km high, is the tallest volcano. [1]", MARS),
    finding("How hot is Venus?", "Venus is hot enough to melt lead. [2]", LEAD),
    finding("What is the tallest mountain?", "Olympus Mons on Mars, about 22 km high, is the tallest volcano. [1]", MARS),
    finding("Who lives there?"),
]


@pytest.fixture
def analysis() -> dict:
    return newsroom.analyse(FINDINGS)


def test_research_searches_and_keeps_what_the_answer_cites():
    passages = [Passage(document="planets.docx", heading="Venus", score=0.5, text="Venus is hot enough to melt lead.")]
    found = newsroom.research("How hot is Venus?", {"How hot is Venus?": passages}.__getitem__, Quoting())
    assert (found["answer"], found["known"]) == ("Venus is hot enough to melt lead. [1]", True)
    assert [source["place"] for source in found["sources"]] == ["planets.docx, Venus"]


def test_the_analysis_numbers_sources_through_and_says_what_is_the_same_and_what_is_open(analysis):
    same = ["Where is the highest volcano?", "What is the tallest mountain?"]
    assert [one["questions"] for one in analysis["findings"]] == [same, ["How hot is Venus?"]]
    assert analysis["findings"][1]["answer"].endswith("[2]") and [source["number"] for source in analysis["sources"]] == [1, 2]
    assert analysis["open"] == ["Who lives there?"]
    assert (analysis["documents"], analysis["figures"]) == ({"planets.docx": 2}, ["22 km"])


def test_the_article_has_every_finding_every_source_and_what_is_not_known_and_the_reviewer_approves(analysis):
    article = newsroom.write("Hot and high: the planets", analysis, Quoting())
    assert "## How hot is Venus?\n\nVenus is hot enough to melt lead. [2]\n" in article
    assert "## What the documents do not say\n\n- Who lives there?\n" in article
    assert article.endswith("## Sources\n\n1. planets.docx, Mars\n2. planets.docx, Venus\n")
    verdict = newsroom.review(article, analysis)
    assert verdict["approved"] and verdict["checked"] >= 2 and verdict["remarks"] == []


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        pytest.param(("melt lead. [2]", "melt lead. [2] Cats rule it. [2]"), "is not what its source says: Cats rule it.", id="invented"),
        pytest.param(("melt lead. [2]", "melt lead. [9]"), "cites what is not there: Venus is hot", id="no such source"),
        pytest.param(("melt lead. [2]", "melt lead. [2] It is so."), "cites nothing: It is so.", id="without a source"),
        pytest.param(("- Who lives there?", ""), "not in it: Who lives there?", id="a question left out"),
    ],
)
def test_the_reviewer_finds_what_is_not_so(analysis, change, remark):
    article = newsroom.write("The planets", analysis, Quoting()).replace(*change)
    verdict = newsroom.review(article, analysis)
    assert not verdict["approved"] and any(one.startswith(remark) for one in verdict["remarks"])


def test_what_a_model_says_in_other_words_holds_when_it_means_the_same(analysis):
    article = newsroom.write("The planets", analysis, Quoting()).replace(
        "Venus is hot enough to melt lead.", "On Venus it is hot enough that lead melts."
    )
    assert newsroom.review(article, analysis)["approved"]


def test_of_nothing_comes_an_article_that_is_not_approved():
    analysis = newsroom.analyse([])
    assert not newsroom.review(newsroom.write("Nothing", analysis, Quoting()), analysis)["approved"]
