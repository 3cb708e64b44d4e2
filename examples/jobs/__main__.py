"""`python -m examples.jobs`: brings documents in, asks questions about them, has four agents write an article; each is a job.

Against a running platform: `EXAMPLES=1 make up`; JOBPLATFORM_URL and JOBPLATFORM_API_KEY (an admin's) say where, and as whom.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.text import Text

from examples.jobs.client import NotAccepted, Platform
from jobplatform_sdk.client_errors import ClientError

SAMPLES = Path(__file__).parent / "samples"
KINDS = (".pdf", ".docx", ".md", ".txt")
QUESTIONS = (
    "May I leave my country?",
    "Which planet is the hottest?",
    "How did the bird get at the water?",
    "How much sugar goes into a cheesecake?",
)
TOPIC = "Accused of a crime: what a person may expect"
TO_RESEARCH = (
    "Can somebody be arrested without a reason?",
    "Is a suspect innocent before the trial?",
    "Must a court be independent and fair?",
    "Can somebody be tortured or treated cruelly?",
    "What does a lawyer cost?",
)


class Play:
    def __init__(self, console: Console, platform: Platform) -> None:
        self._console, self._platform = console, platform
        self.failures = 0

    def ingest(self, paths: Sequence[Path]) -> list[str]:
        """A job each, side by side; their ids."""
        self._head("1  Documents in", "PDF, DOCX and text → chunks → embeddings → vector store; a job for each on `document_processing`")
        told = [(path, self._platform.submit("/examples/documents", files={"files": (path.name, path.read_bytes())})) for path in paths]
        for path, job in told:
            ended = self._follow(job)
            for entry in (ended["result"] or {}).get("documents", ()) if ended["success"] else ():
                pages = f"{entry['pages']} pages, " if entry["pages"] else ""
                self._line(f"   {path.name}: {pages}{entry['characters']:,} characters in {entry['chunks']} chunks")
        return [job["job_id"] for _, job in told]

    def ask(self, questions: Sequence[str], after: Sequence[str]) -> None:
        self._head("2  Questions", "embed → search → prompt → answer with its sources; jobs on `rag_queries` that wait for the documents")
        told = [self._platform.submit("/examples/questions", json={"question": question, "after": list(after)}) for question in questions]
        for question, job in zip(questions, told, strict=True):
            self._line(f"   {question}", style="bold")
            ended = self._platform.ended(job["status_url"])
            if not self._good(ended):
                continue
            self._line(f"      {ended['result']['answer']}", style="green" if ended["result"]["known"] else "yellow")
            for source in ended["result"]["sources"]:
                self._line(f"      [{source['number']}] {source['place']} ({source['score']:.2f})", style="bright_black")

    def write(self, topic: str, questions: Sequence[str]) -> None:
        with self._platform.newsroom() as names:
            self._head("3  Four agents", f"{' → '.join(names)}; a job on `agent_workflows` that follows their session")
            ended = self._follow(self._platform.submit("/examples/workflows", json={"topic": topic, "questions": list(questions)}))
        if not ended["success"]:
            return
        result = ended["result"]
        article = Markdown(result["article"]) if self._console.is_terminal else Text(result["article"])
        self._console.print(Padding(article, (1, 3)))
        verdict = "approved" if result["approved"] else f"not approved: {'; '.join(result['review']['remarks'])}"
        self._line(f"   the reviewer checked {result['review']['checked']} sentences against their sources: {verdict}")
        self.failures += not result["approved"]

    def _follow(self, job: dict[str, Any]) -> dict[str, Any]:
        self._line(f"   {job['job_id']}  {job['status']}", style="bright_black")
        said, ended = "", {}
        for ended in self._platform.follow(job["status_url"]):  # noqa: B007  the last is used
            percent = f"{ended['progress']:.0f} % " if ended.get("progress") is not None else ""
            if (now := f"{ended['status']}  {percent}{ended.get('message') or ''}") != said and ended["status"] != "finished":
                said = now
                self._line(f"      {now}", style="bright_black")
        if self._good(ended):
            seconds = (datetime.fromisoformat(ended["ended_at"]) - datetime.fromisoformat(ended["created_at"])).total_seconds()
            self._line(f"      finished after {seconds:.1f} s", style="green")
        return ended

    def _good(self, ended: dict[str, Any]) -> bool:
        if not ended["success"]:
            self.failures += 1
            self._line(f"      {ended['status']}: {ended.get('error')}", style="red")
        return ended["success"]

    def _head(self, title: str, about: str) -> None:
        self._console.print(f"\n[bold]{title}[/bold]  [bright_black]{about}[/bright_black]", soft_wrap=True)

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when all jobs finished and the reviewer approved."""
    options = _options(argv)
    console = Console(highlight=False)
    try:
        play = Play(console, Platform(options.url, options.key))
        brought = play.ingest(_documents(options.documents))
        play.ask(options.ask or QUESTIONS, brought)
        if not options.documents:
            play.write(TOPIC, TO_RESEARCH)
    except (NotAccepted, httpx.HTTPError, ClientError) as problem:
        console.print(Text(f"{problem}\nIs the platform running with EXAMPLES=1, and is the key an admin's?", style="red"))
        return 1
    return 1 if play.failures else 0


def _documents(given: Sequence[Path]) -> list[Path]:
    found = [path for one in given or [SAMPLES] for path in (sorted(one.rglob("*")) if one.is_dir() else [one])]
    return [path for path in found if path.suffix.lower() in KINDS and path.name != "README.md"]


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.jobs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("documents", nargs="*", type=Path, help="files or folders of your own (default: the samples, and the article)")
    parser.add_argument("--ask", action="append", metavar="QUESTION", help="instead of the sample questions; as often as you like")
    parser.add_argument("--url", default=os.environ.get("JOBPLATFORM_URL"), help="default: JOBPLATFORM_URL")
    parser.add_argument("--key", default=os.environ.get("JOBPLATFORM_API_KEY"), help="default: JOBPLATFORM_API_KEY")
    options = parser.parse_args(argv)
    if not options.url or not options.key:
        parser.error("where is the platform, and who are you? Set JOBPLATFORM_URL and JOBPLATFORM_API_KEY (of an admin).")
    return options


if __name__ == "__main__":
    sys.exit(main())
