"""One performance, from an empty platform to the table at the end."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from demo import checks
from demo.board import ENDED, Board, Progress
from demo.expected import AGENT_OF, Seen, differences, expected, reordering
from demo.files import OTHER, PROSE, PYTHON, Folder, entry_of
from demo.stage import ROOT, Broken, Stage
from demo.tables import Row, ending, milliseconds, reorderings
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_errors import ClientError
from jobplatform_sdk.client_values import Task, TaskEvent

ORG, LOGIN = "demo", "demo"
READS = {AGENT_OF[PYTHON]: "Python: functions, complexity, docstrings", AGENT_OF[PROSE]: "prose: words, readability, broken links",
         AGENT_OF[OTHER]: "everything else: secrets by shape and entropy"}  # fmt: skip
MODULE_OF = {PYTHON: "demo.agents.python_metrics", PROSE: "demo.agents.prose", OTHER: "demo.agents.secret_scanner"}
POLICIES = {"approval_dsl_id": "approval/files", "priority_assigner_dsl_id": "priority/files"}
STALLED_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.5
READERS = 8


class Play:
    def __init__(self, console: Console, stage: Stage, folder: Folder, *, rows: int) -> None:
        self._console, self._stage, self._folder, self._rows_shown = console, stage, folder, rows
        self._files = {found.task_id(number): found for number, found in enumerate(folder.files, start=1)}
        self._progress = Progress(total=len(self._files))
        self._verdicts: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._password = ""
        self._submit_seconds = 0.0

    def perform(self) -> int:
        """0 when every task and the session ended as they should, else 1. Raises Broken when the platform or an agent did not hold."""
        self._introduce()
        self._raise()
        with self._client() as client:
            self._run(client)
            tasks = self._collect(client)
            self._show(tasks)
            status = self.judge(tasks)
            self._say("\nNow a session of task groups over the same folder: find packages, run every check on each, write a report.")
            return max(status, checks.run(self._console, client))

    def stay(self) -> None:
        """Leave it all running for the curious, until Ctrl-C."""
        try:
            self._where_to_look()
            while True:
                time.sleep(1.0)
                self._stage.check()
        except KeyboardInterrupt:
            self._console.print()

    # Before

    def _introduce(self) -> None:
        spaces = [found.space for found in self._folder.files]
        told = ", ".join(f"{spaces.count(space)} {space.replace('-files', '')}" for space in (PYTHON, PROSE, OTHER))
        self._say(f"{len(self._files)} files below {self._folder.root.name or '/'}: {told}.")
        for left_out in self._folder.passed_over[:5]:
            self._say(f"  passed over {left_out}", "bright_black")
        if len(self._folder.passed_over) > 5:
            self._say(f"  … and {len(self._folder.passed_over) - 5} more", "bright_black")

    def _raise(self) -> None:
        began = time.monotonic()
        self._say("Raising the platform: Valkey, NATS, web, workers, beat, listener, Flower …")
        self._stage.raise_platform()
        agents = {AGENT_OF[space]: {"job_space_id": space, "capabilities": [space]} for space in AGENT_OF}
        wishes = {"org": ORG, "name": "Demo", "login": LOGIN, "agents": agents, "keys": {"olga": "org_admin", "sam": "submitter"}}
        answer = self._stage.ask("demo.founding", wishes)
        self._keys, self._password = answer["keys"], answer["password"]
        self._configure()
        for space, module in MODULE_OF.items():
            subject = AGENT_OF[space]
            self._stage.start_agent(
                module,
                JOBPLATFORM_NATS_URL=self._stage.url("nats"),
                JOBPLATFORM_API_KEY=self._keys[subject],
                DEMO_FOLDER=str(self._folder.root),
            )
        self._say(f"Up after {time.monotonic() - began:.1f} s: org `{ORG}` with two policies, three agents in three processes.")

    def _configure(self) -> None:
        """The org names its policies, through the same API its admin would use."""
        headers = {"Authorization": f"Bearer {self._keys['olga']}"}
        for key, value in POLICIES.items():
            answer = httpx.post(f"{self._stage.url('web')}/org-config/{ORG}/{key}", headers=headers, json={"value": value})
            if answer.is_error:
                raise Broken(f"The org could not be configured: {answer.text}")

    # During

    def _run(self, client: Client) -> None:
        listener = threading.Thread(target=self._listen, daemon=True, name="news")
        listener.start()
        sender = ThreadPoolExecutor(1, thread_name_prefix="submit")
        self._progress.began = time.monotonic()
        sent = sender.submit(self._submit, client)
        moved, looked, before = time.monotonic(), 0.0, -1
        with Board(self._console, self._progress, title=f"demo · {self._folder.root.name}", agents=READS) as board:
            while True:
                board.show()
                now = time.monotonic()
                if sent.done():
                    sent.result()
                    heard_all = self._progress.ended >= self._progress.total
                    if (heard_all or now - looked > LOOK_EVERY_SECONDS) and self._all_ended(client):
                        break
                    looked = now
                if self._progress.ended != before:
                    before, moved = self._progress.ended, now
                elif now - moved > STALLED_SECONDS:
                    raise Broken(f"Nothing moved for {STALLED_SECONDS:.0f} s: {board.line().strip()}")
                self._stage.check()
                time.sleep(0.05)
        sender.shutdown()
        took = self._progress.seconds
        self._say(
            f"{len(self._files)} tasks submitted in {self._submit_seconds:.2f} s, all ended after {took:.2f} s "
            f"({len(self._files) / took:.0f} a second, from the first line sent to the last result recorded)."
        )

    def _submit(self, client: Client) -> None:
        began = time.monotonic()
        entries = (entry_of(found, number=number, org_id=ORG) for number, found in enumerate(self._folder.files, start=1))
        for verdict in client.submit_many(entries):
            if not verdict.stored:
                raise Broken(f"{verdict.task_id} was not stored: {verdict.why}")
            self._verdicts[verdict.task_id] = verdict.reason
            self._submit_seconds = time.monotonic() - began

    def _listen(self) -> None:
        """News for the board only; what counts is what the platform answers when asked."""
        try:
            with self._client() as client:
                for event in client.follow_all():
                    if event.kind == "status" and event.task_id in self._files:
                        self._hear(event)
        except ClientError:
            return  # the board then shows what it knows

    def _hear(self, event: TaskEvent) -> None:
        summary = event.result.get("summary", "") if isinstance(event.result, dict) else ""
        said = summary or event.reason
        self._progress.hear(event.task_id, event.status, agent=event.agent, name=self._files[event.task_id].name, said=said)

    def _all_ended(self, client: Client) -> bool:
        counts = client.summary()
        return sum(counts.get(status, 0) for status in ENDED) == self._progress.total == sum(counts.values())

    # After

    def _collect(self, client: Client) -> dict[str, Task]:
        with ThreadPoolExecutor(READERS) as readers:
            return {task.task_id: task for task in readers.map(client.get, self._files)}

    def _show(self, tasks: dict[str, Task]) -> None:
        console = self._console
        rows = [self._row(task_id, tasks[task_id]) for task_id in self._files]
        console.print(ending(rows[: self._rows_shown], width=min(console.width, 200)))
        if len(rows) > self._rows_shown:
            self._say(f"… and {len(rows) - self._rows_shown} more files (--rows shows more)")
        self._show_order(tasks)

    def _show_order(self, tasks: dict[str, Task]) -> None:
        """Of one job space, since each has a queue and agents of its own: the one with the most tasks."""
        by_space: dict[str, list[str]] = {}
        for task_id, task in tasks.items():
            if task.times.started:
                by_space.setdefault(task.job_space_id, []).append(task_id)
        if not by_space:
            return
        space, submitted = max(by_space.items(), key=lambda pair: len(pair[1]))
        started = sorted(submitted, key=lambda task_id: tasks[task_id].times.started)
        names = {task_id: self._files[task_id].name for task_id in submitted}
        moved = reordering([names[one] for one in submitted], [names[one] for one in started], count=8)
        if all(before == after for _, before, after in moved):
            return
        self._say(f"The priority policy reordered the {len(submitted)} tasks of {space}; those that moved most:", "bold")
        self._console.print(reorderings(moved, {names[task_id]: tasks[task_id].priority for task_id in submitted}))
        self._console.print()

    def _row(self, task_id: str, task: Task) -> Row:
        found, rejected, times = self._files[task_id], task.status == "rejected", task.times
        summary = task.result.get("summary", "") if isinstance(task.result, dict) else ""
        return Row(
            name=found.name,
            status=task.status,
            accepted=not rejected,
            verdict=task.reason if rejected else self._verdicts.get(task_id, ""),
            priority=task.priority,
            agent=task.assignment.agent if task.assignment else "",
            because=task.assignment.because if task.assignment else "",
            result="" if rejected else summary or f"{task.status}: {task.reason.rpartition('CannotAnalyse: ')[2]}",
            queued=milliseconds(times.queued, times.assigned),
            dispatch=milliseconds(times.assigned, times.started),
            run=milliseconds(times.started, times.finished),
        )

    def judge(self, tasks: dict[str, Task]) -> int:
        """0 when each file's task is as the file itself asks for, else 1; says what is not."""
        wrong = []
        for task_id, found in self._files.items():
            told = differences(expected(found), _seen(tasks.get(task_id)))
            wrong += [f"{found.name}: {what}" for what in told]
        if not wrong:
            ends = {status: sum(task.status == status for task in tasks.values()) for status in ENDED}
            told = ", ".join(f"{count} {status}" for status, count in ends.items() if count)
            self._say(f"Every task ended as it should: {told}.", "bold green")
            return 0
        self._say(f"{len(wrong)} things are not as they should be:", "bold red")
        for what in wrong[:50]:
            self._say(f"  {what}", "red")
        return 1

    def _where_to_look(self) -> None:
        jobctl = Path(sys.executable).with_name("jobctl")
        command = f"{jobctl.relative_to(ROOT)}" if jobctl.is_relative_to(ROOT) else "jobctl"
        shown = next((task_id for task_id in self._files), "")
        self._console.print(Rule("have a look", style="bright_black"))
        for name, text in (
            ("Admin", f"{self._stage.url('admin')}   login {LOGIN}, password {self._password}"),
            ("API", self._stage.url("docs")),
            ("Flower", self._stage.url("flower")),
            ("Shell", f"export JOBPLATFORM_URL={self._stage.url('web')} JOBPLATFORM_API_KEY={self._keys['sam']}"),
            ("", f"{command} tasks --status rejected"),
            ("", f"{command} show {shown}"),
            ("", f"{command} sessions show {checks.SESSION}"),
        ):
            self._console.print(Text.assemble((f"{name:8}", "bold"), text), soft_wrap=True)
        self._say("\nThe platform and the agents run on. Ctrl-C stops everything.", "bold")

    # Small things

    def _client(self) -> Client:
        return Client(self._stage.url("web"), api_key=self._keys["sam"])

    def _say(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), soft_wrap=True)


def _seen(task: Task | None) -> Seen | None:
    if task is None:
        return None
    agent = task.assignment.agent if task.assignment else ""
    digest = task.result.get("sha256", "") if isinstance(task.result, dict) else ""
    return Seen(status=task.status, priority=task.priority, agent=agent, sha256=digest)
