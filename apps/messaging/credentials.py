"""Who may do what on NATS, without asking the platform: decentralized JWTs.

    operator ── signs ──> platform account ──> its user: everything, JetStream included
             ├─ signs ──> agents' account ───> a user per agent key
             └─ signs ──> system account ────> its user: pushes revocations

Agents live in an account of their own, without JetStream, and reach the platform's through the few subjects it
exports (`_EXPORTS`). Permissions alone would not do: a pull request names the subject its answers go to, nobody
checks that one, and an empty answer sent to `$JS.API.STREAM.DELETE.…` deletes the stream. Answers that cross
accounts end in the asker's own account.

Every key derives from Django's SECRET_KEY, and whatever is signed here is the same bytes each time, so all
processes agree without sharing files. The server checks agents by signature alone: it goes on working while the
platform is down. A NATS server that knows nothing of this (no auth) works too; credentials are not asked for.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import nats
import nkeys
import orjson
from django.conf import settings
from nats.errors import Error as NatsError

from apps.core.errors import Unavailable
from apps.messaging import subjects
from jobplatform_sdk.credentials import user_seed

log = logging.getLogger(__name__)

FIRST_ISSUE = 1_700_000_000
"""`iat` (seconds) of everything derived. The server keeps the newer of a stored and a preloaded account, so one
pushed later with revocations survives a restart. Raise it when what the accounts may do changes."""
UNLIMITED = -1
PULL_ANSWERS_SECONDS = 60
CALL_ANSWER_NS = 60 * 1_000_000_000
"""How long an agent may answer a call for bids."""


class NotPushed(Unavailable):
    """NATS is away or belongs to another operator: the revocation is not known there yet."""

    sentence = "The revocation could not be told to NATS."


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A NATS user: its JWT and the seed that signs the server's nonce."""

    jwt: str
    seed: bytes = field(repr=False)

    @property
    def public_key(self) -> str:
        return _public(nkeys.from_seed(self.seed))

    def options(self) -> dict[str, Callable[..., Any]]:
        """Arguments of `nats.connect`. A server without auth does not ask."""
        pair = nkeys.from_seed(self.seed)
        return {"user_jwt_cb": self.jwt.encode, "signature_cb": lambda nonce: base64.b64encode(pair.sign(nonce.encode()))}


@dataclass(frozen=True, kw_only=True)
class AgentCredentials:
    """What an agent's API key gains on NATS. `jwt` goes behind the first dot of the key; `public_key` is stored
    so that the key can be revoked."""

    jwt: str
    public_key: str


@lru_cache(maxsize=1)
def platform_credentials() -> Credentials:
    """The platform's own user: everything inside the account."""
    return _user("platform", _platform_account())


def agent_credentials(org_id: str, subject_id: str, secret: str, expires_at: datetime | None) -> AgentCredentials:
    """The user JWT of one agent key: its own subjects, its own consumer, its own inbox. ValueError when the subject
    id is too long for the wire."""
    token = subjects.agent_token(org_id, subject_id)
    public_key = _public(nkeys.from_seed(user_seed(secret)))
    jwt = _encode(_user_claims(token, public_key, permissions=_agent_permissions(token), expires_at=expires_at), _agents_account())
    return AgentCredentials(jwt=jwt, public_key=public_key)


def server_config(
    port: int,
    http_port: int,
    store_dir: Path | str,
    *,
    host: str = "127.0.0.1",
    server_name: str = "jobplatform",
    sync_interval: str = "",
    max_payload: int = 1024 * 1024,
) -> str:
    """A nats-server configuration file: our operator, JetStream in `store_dir`, monitoring on `http_port` (0: none).

    `sync_interval` is JetStream's (`always` syncs every write; empty: the server's default, two minutes). Both
    ports may be -1: the server picks one.
    """
    root = Path(store_dir)
    jetstream = {"store_dir": str(root / "jetstream")} | ({"sync_interval": sync_interval} if sync_interval else {})
    config: dict[str, Any] = {
        "host": host,
        "port": port,
        "server_name": server_name,
        "max_payload": max_payload,
        "jetstream": jetstream,
        "operator": _operator_jwt(),
        "system_account": _public(_system_account()),
        "resolver": {"type": "full", "dir": str(root / "accounts"), "allow_delete": False, "interval": "2m"},
        "resolver_preload": {
            _public(_platform_account()): _platform_account_jwt(),
            _public(_agents_account()): _agents_account_jwt(),
            _public(_system_account()): _system_account_jwt(),
        },
    }
    if http_port:
        config["http"] = f"{host}:{http_port}"
    return json.dumps(config, indent=2) + "\n"  # the server's own syntax is a superset of JSON


def revoke(public_keys: Iterable[str], *, now: datetime, url: str | None = None, timeout_seconds: float = 3.0) -> None:
    """Tell NATS that these user keys are worth nothing any more; open connections of theirs are closed.

    Adds to what is revoked already. Raises NotPushed.
    """
    keys = set(public_keys) - {""}
    if keys:
        _push_revocations(lambda known: known | keys, now, url or settings.NATS_URL, timeout_seconds)


def settle(shut: Callable[[], set[str]], *, now: datetime, url: str | None = None, timeout_seconds: float = 3.0) -> None:
    """Bring NATS up to what `shut` says are the keys that open nothing: it forgets those that may come back, and a server
    whose disk was lost learns all. Raises NotPushed.

    `shut` is asked after NATS: what NATS knows by then was written down before it was told, so nobody's revocation is undone
    who revokes meanwhile.
    """
    _push_revocations(lambda _known: shut(), now, url or settings.NATS_URL, timeout_seconds)


def _push_revocations(wanted: Callable[[set[str]], set[str]], now: datetime, url: str, timeout_seconds: float) -> None:
    account = _public(_agents_account())
    # Between its two runs the loop rests: `wanted` may ask the database, which may not happen inside one.
    with asyncio.Runner() as runner:
        try:
            connection = runner.run(_connect_as_system(url, timeout_seconds))
            try:
                # Two revokers at once: the later one may not see the other's; upkeep repeats the whole set.
                lookup = f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP"
                revoked = _revocations(runner.run(connection.request(lookup, timeout=timeout_seconds)).data)
                keys = wanted(set(revoked))
                if keys == set(revoked):
                    return
                issued_at = int(now.timestamp())
                claims = _agents_account_jwt({key: revoked.get(key, issued_at) for key in sorted(keys)}, issued_at).encode()
                pushed = runner.run(connection.request("$SYS.REQ.CLAIMS.UPDATE", claims, timeout=timeout_seconds))
                verdict = orjson.loads(pushed.data)
                if verdict.get("error"):
                    raise NotPushed(problem=str(verdict["error"].get("description", "")))
            finally:
                runner.run(connection.close())
        except (NatsError, OSError, TimeoutError) as error:
            raise NotPushed(problem=str(error) or type(error).__name__) from None
    log.info("nats.revoked", extra={"keys": len(keys)})


async def _connect_as_system(url: str, timeout_seconds: float) -> nats.NATS:
    # `allow_reconnect` does not cover the first connection: without a bound nats-py tries that for two minutes.
    return await nats.connect(
        url.split(","),
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
        connect_timeout=timeout_seconds,
        error_cb=_quiet,
        **_system_user().options(),
    )


async def _quiet(_error: Exception) -> None:
    """Connection errors are raised where they matter; nats-py would log each of them too."""


def _revocations(account_jwt: bytes) -> dict[str, int]:
    if not account_jwt:
        return {}
    payload = account_jwt.split(b".")[1]
    return dict(orjson.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))["nats"].get("revocations", {}))


# Keys -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _pair(purpose: str, prefix: int) -> nkeys.KeyPair:
    """HKDF-SHA256 (RFC 5869) from SECRET_KEY; the purpose keeps the keys apart. One block is one ed25519 seed."""
    extracted = hmac.digest(b"jobplatform-nats", settings.SECRET_KEY.encode(), hashlib.sha256)
    raw = hmac.digest(extracted, purpose.encode() + b"\x01", hashlib.sha256)
    return nkeys.from_seed(nkeys.encode_seed(raw, prefix))


def _operator() -> nkeys.KeyPair:
    return _pair("operator", nkeys.PREFIX_BYTE_OPERATOR)


def _platform_account() -> nkeys.KeyPair:
    return _pair("platform-account", nkeys.PREFIX_BYTE_ACCOUNT)


def _agents_account() -> nkeys.KeyPair:
    return _pair("agents-account", nkeys.PREFIX_BYTE_ACCOUNT)


def _system_account() -> nkeys.KeyPair:
    return _pair("system-account", nkeys.PREFIX_BYTE_ACCOUNT)


def _public(pair: nkeys.KeyPair) -> str:
    return bytes(pair.public_key).decode("ascii")


def reset() -> None:
    """Forget derived keys (tests that change SECRET_KEY)."""
    _pair.cache_clear()
    platform_credentials.cache_clear()


# JWTs (nats-io/jwt, version 2) -------------------------------------------------------------------------------------


def _operator_jwt() -> str:
    nats_claims = {"system_account": _public(_system_account()), "type": "operator", "version": 2}
    return _encode({"name": "jobplatform", "sub": _public(_operator()), "nats": nats_claims}, _operator())


_EXPORTS: tuple[dict[str, Any], ...] = (
    # Pulls have many answers; the server forgets the way back when none came for this long. Longer than any pull.
    {
        "name": "pull",
        "subject": f"$JS.API.CONSUMER.MSG.NEXT.{subjects.DELIVERIES}.*",
        "type": "service",
        "response_type": "Stream",
        "response_threshold": PULL_ANSWERS_SECONDS * 1_000_000_000,
    },
    {"name": "ack", "subject": f"$JS.ACK.{subjects.DELIVERIES}.>", "type": "service"},
    {"name": "reports", "subject": subjects.ALL_REPORTS, "type": "service"},
    {"name": "control", "subject": subjects.control("*"), "type": "stream"},
)
"""What the platform's account offers to agents."""

_AGENT_EXPORTS: tuple[dict[str, Any], ...] = (
    {"name": "heartbeats", "subject": subjects.ALL_HEARTBEATS, "type": "stream"},
    {"name": "bids", "subject": subjects.bids("*"), "type": "service"},
)
"""What the agents' account offers to the platform."""


def _platform_account_jwt() -> str:
    limits = _LIMITS | {"mem_storage": UNLIMITED, "disk_storage": UNLIMITED, "streams": UNLIMITED, "consumer": UNLIMITED}
    claims = _account_claims("platform", _platform_account(), limits)
    claims["nats"] |= {"exports": _EXPORTS, "imports": _imports(_AGENT_EXPORTS, _agents_account())}
    return _encode(claims, _operator())


def _agents_account_jwt(revocations: dict[str, int] | None = None, issued_at: int = FIRST_ISSUE) -> str:
    claims = _account_claims("agents", _agents_account(), _LIMITS)
    claims["nats"] |= {"exports": _AGENT_EXPORTS, "imports": _imports(_EXPORTS, _platform_account())}
    if revocations:
        claims["nats"]["revocations"] = revocations
    return _encode(claims, _operator(), issued_at)


def _imports(exports: tuple[dict[str, Any], ...], of: nkeys.KeyPair) -> list[dict[str, Any]]:
    return [{name: export[name] for name in ("name", "subject", "type")} | {"account": _public(of)} for export in exports]


def _system_account_jwt() -> str:
    return _encode(_account_claims("system", _system_account(), _LIMITS), _operator())


_LIMITS = {
    "subs": UNLIMITED,
    "data": UNLIMITED,
    "payload": UNLIMITED,
    "imports": UNLIMITED,
    "exports": UNLIMITED,
    "wildcards": True,
    "conn": UNLIMITED,
    "leaf": UNLIMITED,
}


def _account_claims(name: str, pair: nkeys.KeyPair, limits: dict[str, Any]) -> dict[str, Any]:
    nats_claims = {"limits": limits, "default_permissions": {"pub": {}, "sub": {}}, "type": "account", "version": 2}
    return {"name": name, "sub": _public(pair), "nats": nats_claims}


def _system_user() -> Credentials:
    return _user("system-user", _system_account())


def _user(name: str, account: nkeys.KeyPair) -> Credentials:
    pair = _pair(name, nkeys.PREFIX_BYTE_USER)
    return Credentials(jwt=_encode(_user_claims(name, _public(pair)), account), seed=pair.seed)


def _user_claims(
    name: str, public_key: str, *, permissions: dict[str, Any] | None = None, expires_at: datetime | None = None
) -> dict[str, Any]:
    nats_claims = (permissions or {"pub": {}, "sub": {}}) | {
        "subs": UNLIMITED,
        "data": UNLIMITED,
        "payload": UNLIMITED,
        "type": "user",
        "version": 2,
    }
    claims: dict[str, Any] = {"name": name, "sub": public_key, "nats": nats_claims}
    if expires_at is not None:
        claims["exp"] = int(expires_at.timestamp())
    return claims


def _agent_permissions(token: str) -> dict[str, Any]:
    """All an agent may do. Its reports end in its own token, so the sender of a report is who NATS says it is."""
    stream = subjects.DELIVERIES
    return {
        "pub": {
            "allow": [
                f"tasks.*.*.events.{token}",
                subjects.heartbeat(token),
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{token}",
                f"$JS.ACK.{stream}.{token}.>",
            ]
        },
        "sub": {"allow": [f"{subjects.inbox_prefix(token)}.>", subjects.control(token), subjects.bids(token)]},
        "resp": {"max": 1, "ttl": CALL_ANSWER_NS},
    }


def _encode(claims: dict[str, Any], signer: nkeys.KeyPair, issued_at: int = FIRST_ISSUE) -> str:
    """Sign claims. The id (`jti`) is a hash of them, as the server's own tools make it."""
    claims = claims | {"iss": _public(signer), "iat": issued_at}
    unsigned = json.dumps(claims, sort_keys=True, separators=(",", ":")).encode()
    claims["jti"] = base64.b32encode(hashlib.sha256(unsigned).digest()).decode().rstrip("=")
    header = _base64({"typ": "JWT", "alg": "ed25519-nkey"})
    signed = f"{header}.{_base64(claims)}"
    return f"{signed}.{base64.urlsafe_b64encode(signer.sign(signed.encode())).decode().rstrip('=')}"


def _base64(value: dict[str, Any]) -> str:
    raw = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
