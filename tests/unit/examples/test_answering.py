"""Answers name their sources, whichever model gives them; the quoting one says nothing that is not there."""

from __future__ import annotations

import json

import numpy
import pytest

from examples.jobs.answering import UNKNOWN, OpenAICompatible, Passage, Prompt, Quoting, answer, llm
from examples.jobs.embedding import WordLlamaEmbedder

LEAVE = Passage(document="rights.pdf", heading="Article 13", page=3, score=0.4,
                text="1. Everyone has the right to freedom of movement. 2. Everyone has the right to leave any country.")  # fmt: skip
VENUS = Passage(document="planets.docx", heading="Venus", score=0.2, text="Venus is the hottest of all planets.")


class Says:
    def __init__(self, text: str) -> None:
        self.text = text

    def complete(self, prompt: Prompt) -> str:
        return self.text


def test_texts_that_mean_the_like_are_near_without_sharing_a_word():
    embedder = WordLlamaEmbedder()
    child, kid, tax = embedder.matrix(["The child is sleeping", "A kid takes a nap", "Corporate tax rates rose"])
    assert child @ kid > 0.4 > 0.2 > child @ tax
    assert numpy.allclose(numpy.linalg.norm([child, kid, tax], axis=1), 1.0)
    assert embedder.embed([""]) == [[0.0] * embedder.dims]
    assert embedder.embed([]) == []


def test_the_quoting_model_quotes_what_answers_and_cites_it():
    found = answer("May I leave my country?", [VENUS, LEAVE], Quoting(most=1))
    assert found.text == "Everyone has the right to leave any country. [2]"
    assert [(source["number"], source["place"]) for source in found.sources] == [(2, "rights.pdf, Article 13, page 3")]
    assert found.known


@pytest.mark.parametrize("question", ["How much sugar goes into a cheesecake?", "How do I install a printer?", ""])
def test_what_no_passage_answers_is_not_guessed(question):
    found = answer(question, [VENUS, LEAVE], Quoting())
    assert (found.text, found.known, found.sources) == (UNKNOWN, False, [])
    assert answer(question, [], Quoting()).text == UNKNOWN


def test_a_models_citations_are_read_and_those_of_nothing_are_none():
    found = answer("?", [VENUS, LEAVE], Says("Yes [2], says the law [2][7] [0]. "))
    assert found.text == "Yes [2], says the law [2][7] [0]."
    assert [source["number"] for source in found.sources] == [2]
    assert answer("?", [VENUS], Says(f"{UNKNOWN}")).known is False


def test_a_model_behind_openais_protocol_reads_the_prompt_and_its_words_are_the_answer(serve, monkeypatch):
    said = json.dumps({"choices": [{"message": {"role": "assistant", "content": "You may [2]."}}]}).encode()

    def speak(connection, _request) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))

    server = serve(speak)
    monkeypatch.setenv("EXAMPLES_LLM_URL", f"http://{server.host}/v1/")
    monkeypatch.setenv("EXAMPLES_LLM_MODEL", "qwen3")
    monkeypatch.setenv("EXAMPLES_LLM_KEY", "secret")
    client = llm()
    assert isinstance(client, OpenAICompatible)
    found = answer("May I leave?", [VENUS, LEAVE], client)
    assert found.text == "You may [2]." and found.sources[0]["document"] == "rights.pdf"
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions ") and b"bearer secret" in head.lower()
    prompt = json.loads(body)["messages"][0]["content"]
    assert "[2] (rights.pdf, Article 13, page 3)" in prompt and "Question: May I leave?" in prompt and UNKNOWN in prompt
