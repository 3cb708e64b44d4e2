"""The agent of examples/read_documents.yaml: lists a folder, reads its documents one by one, writes a report on them.

The folder is its own matter (DOCUMENTS, default: the current one); tasks name files in it and nothing outside.
"""

import os
import re
from collections import Counter
from pathlib import Path

from jobplatform_sdk import Agent

FOLDER = Path(os.environ.get("DOCUMENTS", ".")).expanduser().resolve()
LIMIT = 5_000_000
WORD = re.compile(r"[^\W\d_]{3,}")
agent = Agent(concurrency=8)  # its address and key: JOBPLATFORM_NATS_URL, JOBPLATFORM_API_KEY


def list_files(task):
    found = sorted(path for path in FOLDER.rglob("*") if path.is_file() and not path.is_symlink())
    return [{"name": path.relative_to(FOLDER).as_posix(), "bytes": path.stat().st_size} for path in found if path.name[0] != "."]


def read_document(task):
    path = (FOLDER / task.payload["input"]["file"]).resolve()
    if not path.is_relative_to(FOLDER):
        raise PermissionError(f"{path.name} is outside of the folder")
    data = path.read_bytes()
    if b"\0" in data or len(data) > LIMIT:
        raise ValueError(f"{path.name} is no text, or too large")
    text = data.decode("utf-8", "replace")
    words = WORD.findall(text.lower())
    sentences = len(re.findall(r"[.!?](?:\s|$)", text)) or 1
    often = [word for word, _ in Counter(word for word in words if len(word) > 4).most_common(3)]
    return {
        "file": task.payload["input"]["file"], "lines": text.count("\n") + 1, "words": len(words),
        "words_per_sentence": round(len(words) / sentences, 1), "about": often,
    }  # fmt: skip


def write_report(task):
    reviews = task.payload["input"]["reviews"]
    found = sorted(reviews["results"], key=lambda review: -review["words"])
    lines = [f"{len(found)} documents, {sum(review['words'] for review in found):,} words", ""]
    lines += [f"{review['words']:>7,} words  {review['file']}: {', '.join(review['about']) or 'nothing much'}" for review in found]
    missing = reviews.get("missing") or []
    if missing:
        lines += ["", "not read:", *(f"  {one.get('identifier')}: {one.get('reason')}" for one in missing)]
    return {"report": "\n".join(lines)}


DO = {"ListFiles": list_files, "ReadDocument": read_document, "WriteReport": write_report}


@agent.handler
def work(task, context):
    result = DO[task.payload["agent_class"]](task)
    return result if isinstance(result, dict) else {task.payload["result_keys"][0] if task.payload.get("result_keys") else "files": result}


agent.run()
