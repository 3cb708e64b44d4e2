"""`agents`: who is there, how they do, pause and drain them, let them in and put them out."""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

from rich.text import Text

from jobplatform_sdk.cli.screen import Exit, Screen, age, clean, duration, json_text
from jobplatform_sdk.client import Client
from jobplatform_sdk.client_agents import AgentInfo, redeem

AGENTS_MORE = """\
Examples:
  jobctl agents                                       who is there, and how they do
  jobctl agents show ada
  jobctl agents pause ada --reason "new disk"         resume, drain, undrain, reset-breaker, revoke alike
  jobctl agents drain ada --wait                      returns once it has nothing left
  jobctl agents invite ada --role scouts --expires 2h prints a token that works once
  jobctl agents enrol --token je_...                  on the agent's machine: prints its API key
  jobctl agents enrolments
  jobctl agents withdraw 0123456789ab
"""
STEER = ("pause", "resume", "drain", "undrain", "reset-breaker", "revoke")
VERBS = ("list", "show", *STEER, "invite", "enrol", "enrolments", "withdraw")
WITHOUT_ID = {"list", "enrolments", "enrol"}
OUTCOMES = ("completed", "failed", "lost", "rejected", "declined", "excused")
POLL_SECONDS = 0.5
_SIZES = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def agent_arguments(to: argparse.ArgumentParser) -> None:
    to.add_argument("verb", choices=VERBS, nargs="?", default="list", metavar="VERB", help=f"{', '.join(VERBS)} (default: list)")
    to.add_argument("target", metavar="AGENT|ENROLMENT", nargs="?", help="an agent's subject id; with withdraw: an enrolment's id")
    to.add_argument("--reason", default="", help="kept with the agent, and on the audit trail")
    to.add_argument("--wait", action="store_true", help="with drain: until it has nothing left; Ctrl-C leaves it draining")
    to.add_argument("--role", action="append", default=[], metavar="ID", help="with invite: a role it will hold, may be repeated")
    to.add_argument("--space", metavar="ID", help="with invite: the job space it will hold them in (default: every one)")
    to.add_argument("--expires", type=span, metavar="SPAN", help="with invite: how long the token works, as 90s, 15m, 2h, 7d (default 1d)")
    to.add_argument("--key-expires", type=span, metavar="SPAN", help="with invite: how long the agent's key will work (default: for ever)")
    to.add_argument("--token", metavar="TOKEN", help="with enrol")


def span(text: str) -> int:
    """Seconds."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if not found:
        raise ValueError
    return int(found[1]) * _SIZES[found[2]]


def agents(options: argparse.Namespace, client: Client, screen: Screen) -> int:
    verb, target = options.verb, options.target
    if verb not in WITHOUT_ID and not target:
        raise ValueError(f"agents {verb} needs the id of an {'enrolment' if verb == 'withdraw' else 'agent'}.")
    if verb == "list":
        _list(client, screen)
    elif verb == "enrolments":
        _enrolments(client, screen)
    elif verb == "enrol":
        _enrol(options, client, screen)
    elif verb == "invite":
        wish = {"job_space_id": options.space, "expires_in_s": options.expires, "key_lifetime_s": options.key_expires}
        made = client.invite_agent(target, roles=options.role, **wish)
        if screen.json:
            screen.document({**made.data, "token": made.token})
        else:
            screen.line(made.token)
            screen.note(f"for {target}, once, until {made.expires:%Y-%m-%d %H:%M} UTC: jobctl agents enrol --token …")
    elif verb == "withdraw":
        gone = client.withdraw_enrolment(target)
        _say(screen, gone.data, gone.enrolment_id, gone.state)
    elif verb == "show":
        _show(client.agent(target), screen)
    else:
        if options.wait and verb != "drain":
            raise ValueError(f"--wait does not go with {verb}")
        found = getattr(client, "reset_breaker" if verb == "reset-breaker" else f"{verb}_agent")(target, options.reason)
        while options.wait and found.state == "draining":
            time.sleep(POLL_SECONDS)
            found = client.agent(target)
        _say(screen, found.data, found.subject_id, found.state, found.barred)
        if found.data.get("told_nats") is False:
            screen.note("NATS is away: the agent stays connected until the platform reaches it. It gets nothing all the same.")
        if options.wait and found.state != "drained":
            return Exit.NOT_COMPLETED  # somebody took it back, or revoked it
    return Exit.FINE


def _say(screen: Screen, data: dict[str, Any], *parts: str) -> None:
    if screen.json:
        screen.document(data)
    else:
        screen.line(*parts)


def _list(client: Client, screen: Screen) -> None:
    if screen.json:
        for agent in client.agents():
            screen.document(agent.data)
        return
    rows = [
        (a.subject_id, a.state, a.presence, f"{a.load}/{a.slots}", _reputation(a), a.breaker.replace("_", "-"), _seen(a), a.barred)
        for a in client.agents()
    ]
    if rows:
        titles = ("AGENT", "STATE", "PRESENCE", "LOAD", "REPUTATION", "BREAKER", "SEEN", "GETS NOTHING BECAUSE")
        screen.table(titles, rows, flexible="GETS NOTHING BECAUSE", shorten=("AGENT",))
    else:
        screen.note("no agents")


def _enrolments(client: Client, screen: Screen) -> None:
    found = list(client.enrolments())
    if screen.json:
        for one in found:
            screen.document(one.data)
    elif found:
        rows = [(e.enrolment_id, e.subject_id, e.state, str(e.data.get("expires_at"))[:16], str(e.data.get("created_by"))) for e in found]
        screen.table(("ENROLMENT", "AGENT", "STATE", "EXPIRES", "BY"), rows, flexible="BY", shorten=("AGENT",))
    else:
        screen.note("no enrolments")


def _enrol(options: argparse.Namespace, client: Client, screen: Screen) -> None:
    """The client was opened with the token in the place of a key (`main`)."""
    if not options.token:
        raise ValueError("agents enrol needs --token.")
    made = client._ask(redeem(None))
    if screen.json:
        screen.document({**made.data, "api_key": made.api_key})
        return
    screen.line(made.api_key)
    screen.note(f"the key of {made.subject_id} of {made.org_id}; it is not shown again")
    screen.note(f"export JOBPLATFORM_API_KEY=…  JOBPLATFORM_NATS_URL={made.nats_url}")


def _show(agent: AgentInfo, screen: Screen) -> None:
    if screen.json:
        screen.document(agent.data)
        return
    screen.line(Text(clean(agent.subject_id), style="bold"), agent.state)
    figures, breaker = agent.data.get("reputation") or {}, agent.data.get("breaker") or {}
    card = agent.card
    ends = ", ".join(f"{figures[name]} {name}" for name in OUTCOMES if figures.get(name))
    calibration = {"Brier score": figures.get("brier"), "time ×": figures.get("eta_ratio"), "price ×": figures.get("price_ratio")}
    facts = {
        "because": agent.reason,
        "barred": agent.barred,
        "presence": f"{agent.presence}{_seen(agent) and ', seen ' + _seen(agent) + ' ago'}",
        "load": f"{agent.load} of {agent.slots} slots in {len(agent.data.get('instances') or [])} process(es)" if agent.slots else "",
        "breaker": f"{agent.breaker.replace('_', '-')} {breaker.get('because') or ''}".strip(),
        "can": ", ".join(agent.capabilities),
        "kinds": ", ".join(map(str, card.get("job_kinds") or [])),
        "payload": f"at most {card['max_payload_bytes']:,} bytes" if card.get("max_payload_bytes") else "",
        "costs": json_text(card["costs"]) if card.get("costs") else "",
        "version": str(card.get("version") or ""),
        "about": str(card.get("description") or ""),
        "card": str(agent.data.get("card_problem") or ""),
        "reputation": _reputation(agent),
        "attempts": ends,
        "latency": duration(figures["latency_p50_s"]) if figures.get("latency_p50_s") is not None else "",
        "promises": ", ".join(f"{name} {value:.2f}" for name, value in calibration.items() if value is not None),
    }
    for name, value in facts.items():
        if value:
            screen.line(Text(f"  {name:<11}", style="dim"), value)


def _reputation(agent: AgentInfo) -> str:
    low, high = agent.interval
    return f"{agent.reputation:.2f} ({low:.2f}–{high:.2f})"


def _seen(agent: AgentInfo) -> str:
    return age(agent.last_seen) if agent.last_seen else ""
