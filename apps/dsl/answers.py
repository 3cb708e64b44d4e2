"""What a policy may answer, hook by hook. An answer is parsed before it is believed; extra keys are kept and recorded."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from apps.dsl.policies import Hook

REASON_LENGTH = 2000
PRIORITY_MIN, PRIORITY_MAX = -1000, 1000
SUBJECT_ID_LENGTH = 180
TERMS = (
    "rule", "bid_window_ms", "reserve_price", "min_bids", "weights", "capabilities", "max_candidates", "max_eta_s", "min_confidence",
    "min_reputation", "brief",
)  # fmt: skip
RULES = ("first_price", "second_price", "weighted")
WEIGHTS = ("price", "eta", "confidence", "load", "reputation", "calibration")
PEOPLE_MAX = 100
WAIT_MAX_S = 365 * 86_400
BID_WINDOW_MS = (10, 10_000)
MIN_BIDS = (0, 1000)
MAX_CANDIDATES = (1, 10_000)
NUMBER_MAX = 1e12
BRIEF_BYTES = 8192
CAPABILITIES_MAX = 100
SHOWN = 5


class BadAnswer(Exception):
    """Says in one sentence what is wrong with the answer."""


def parse(hook: Hook, value: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The answer, typed and complete (a missing `reason` is ""). Raises BadAnswer.

    `inputs` are the arguments the script got; a plan may only choose among its candidates.
    """
    if type(value) is not dict:
        raise BadAnswer(f"the answer must be a dict, not {_kind(value)}")
    answer = dict(value)
    _PARSERS[hook](answer, inputs)
    return answer


def _approval(answer: dict[str, Any], _inputs: dict[str, Any]) -> None:
    # Exactly true, false or null: 1, "yes" and a missing key are not a yes.
    if "accepted" not in answer:
        raise BadAnswer("the answer has no `accepted`")
    if answer["accepted"] is not None and type(answer["accepted"]) is not bool:
        raise BadAnswer(f"`accepted` must be True, False or None, not {_kind(answer['accepted'])}")
    answer["reason"] = _text(answer, "reason", default="", length=REASON_LENGTH)
    # Who decides instead, when the answer is null, and by when.
    for name in ("approvers", "escalate_to"):
        if answer.get(name) is not None:
            _people(answer[name], name)
    for name in ("expires_in_s", "escalate_after_s"):
        if answer.get(name) is not None and not (_is_number(answer[name], WAIT_MAX_S) and answer[name] >= 1):
            raise BadAnswer(f"`{name}` must be a number of seconds from 1 to {WAIT_MAX_S}")


def _people(names: Any, field: str) -> None:
    if type(names) is not list or len(names) > PEOPLE_MAX:
        raise BadAnswer(f"`{field}` must be a list of at most {PEOPLE_MAX} subject ids or `role:<role type>`")
    if any(type(name) is not str or not 0 < len(name.removeprefix("role:")) <= SUBJECT_ID_LENGTH for name in names):
        raise BadAnswer(f"`{field}` must hold subject ids or `role:<role type>`")


def _priority(answer: dict[str, Any], _inputs: dict[str, Any]) -> None:
    answer["priority"] = _whole(answer, "priority", PRIORITY_MIN, PRIORITY_MAX)


def _auction_input(answer: dict[str, Any], _inputs: dict[str, Any]) -> None:
    if "capabilities" in answer:
        names = answer["capabilities"]
        if type(names) is not list or len(names) > CAPABILITIES_MAX or any(type(name) is not str or not name for name in names):
            raise BadAnswer("`capabilities` must be a list of names")
    if "bid_window_ms" in answer:
        _whole(answer, "bid_window_ms", *BID_WINDOW_MS)
    if "min_bids" in answer:
        _whole(answer, "min_bids", *MIN_BIDS)
    if answer.get("max_candidates") is not None:
        _whole(answer, "max_candidates", *MAX_CANDIDATES)
    for name, most in (("reserve_price", NUMBER_MAX), ("max_eta_s", NUMBER_MAX)):
        if answer.get(name) is not None and not _is_number(answer[name], most):
            raise BadAnswer(f"`{name}` must be a number from 0, or None")
    for name in ("min_confidence", "min_reputation"):
        if name in answer and not _is_number(answer[name], 1):
            raise BadAnswer(f"`{name}` must be a number from 0 to 1")
    if "rule" in answer and answer["rule"] not in RULES:
        raise BadAnswer(f"`rule` must be one of {', '.join(RULES)}")
    if "weights" in answer:
        _weights(answer["weights"])
    if "brief" in answer and (type(answer["brief"]) is not dict or len(orjson.dumps(answer["brief"])) > BRIEF_BYTES):
        raise BadAnswer(f"`brief` must be a dict of at most {BRIEF_BYTES} bytes as JSON")


def _weights(weights: Any) -> None:
    if type(weights) is not dict or not all(_is_number(weight, NUMBER_MAX) for weight in weights.values()):
        raise BadAnswer("`weights` must be a dict of numbers from 0")
    if unknown := [name for name in weights if name not in WEIGHTS]:
        raise BadAnswer(f"`weights` may hold {', '.join(WEIGHTS)}, not {unknown[0][:40]!r}")
    if weights and not any(weights.values()):
        raise BadAnswer("`weights` must not all be 0")


def _plan_retrieve(answer: dict[str, Any], inputs: dict[str, Any]) -> None:
    chosen = _text(answer, "head_agent_subject_id", default=None, length=SUBJECT_ID_LENGTH)
    offered = [str(candidate.get("subject_id")) for candidate in inputs.get("candidates", ())]
    if chosen not in offered:
        those = f"these are: {', '.join(offered[:SHOWN])}{', …' if len(offered) > SHOWN else ''}" if offered else "there are none"
        raise BadAnswer(f"`head_agent_subject_id` {chosen!r} is not a candidate; {_meant(chosen, offered) or those}")


_PARSERS: dict[Hook, Callable[[dict[str, Any], dict[str, Any]], None]] = {
    Hook.APPROVAL: _approval,
    Hook.PRIORITY: _priority,
    Hook.AUCTION_INPUT: _auction_input,
    Hook.PLAN_RETRIEVE: _plan_retrieve,
}


def strangers(hook: Hook, answer: Mapping[str, Any]) -> str:
    """What of a good answer is no term of the platform's own auctions, and so changes nothing there (an auction service gets it
    all); "" for nothing. A slip of the pen looks like that."""
    if hook is not Hook.AUCTION_INPUT:
        return ""
    unknown = [name for name in answer if name not in TERMS and name != "reason"]
    meant = [f"{name[:40]} ({near})" if (near := _meant(name, TERMS)) else name[:40] for name in unknown[:SHOWN]]
    return f"no terms of our auctions: {', '.join(meant)}" if meant else ""


def _meant(said: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(said, names, n=1)
    return f"did you mean {near[0]}?" if near else ""


def _whole(answer: dict[str, Any], name: str, low: int, high: int) -> int:
    value = answer.get(name)
    if type(value) is not int:
        raise BadAnswer(f"`{name}` must be a whole number, not {_kind(value)}")
    if not low <= value <= high:
        raise BadAnswer(f"`{name}` must be from {low} to {high}, not {value}")
    return value


def _text(answer: dict[str, Any], name: str, *, default: str | None, length: int) -> str:
    value = answer.get(name, default)
    if type(value) is not str:
        raise BadAnswer(f"`{name}` must be text, not {_kind(value)}")
    if len(value) > length:
        raise BadAnswer(f"`{name}` must have at most {length} characters, not {len(value)}")
    return value


def _is_number(value: Any, most: float) -> bool:
    """From 0 to `most`; not-a-number is neither."""
    return type(value) in (int, float) and 0 <= value <= most


def _kind(value: Any) -> str:
    names = {type(None): "None", bool: "a truth value", int: "a number", float: "a fraction", str: "text", list: "a list", dict: "a dict"}
    return names[type(value)]
