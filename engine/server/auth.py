"""Who may talk to the server: Host and Origin are always checked, off loopback also a token.

A request without Origin comes from no web page and passes the Origin check; a Host that is no name
of this server means that a web page has pointed its own name at this machine (DNS rebinding).
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from engine.api.errors import EngineError
from engine.config import Config

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = frozenset({"/health", "/ready", "/api/health", "/api/ready"})  # for probes
SESSION_S = 365 * 24 * 3600


class Refused(EngineError):
    """A request that may not pass; `status` is the HTTP status of the answer."""

    code = "forbidden"
    status = 403


class TokenRequired(Refused):
    code = "token_required"
    status = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rules of one server. `token` is None where none is asked for."""

    hosts: frozenset[str]
    proxies: frozenset[str]  # names of --allow-host, whose pages may use the server too
    allows_addresses: bool  # any IP address as Host, since a name is what rebinding needs
    token: str | None
    cors_origin: str | None
    cookie_name: str

    @property
    def session(self) -> str:
        """The cookie's value: follows from the token and does not give it away."""
        key = (self.token or "").encode()
        return hmac.new(key, b"weft session", hashlib.sha256).hexdigest()


def access_of(config: Config) -> Access:
    """The access rules that a configuration asks for.

    Raises: EngineError when a token is required and the configuration has none.
    """
    needs_token = config.require_token or not config.is_loopback
    if needs_token and not config.token:
        raise EngineError(
            "A token is required and none is configured.", hint="Start with --token TEXT."
        )
    proxies = frozenset(name.lower() for name in config.allow_hosts)
    names = proxies | LOOPBACK_NAMES | {config.listen.lower()}
    if not config.is_loopback:
        names |= {socket.gethostname().lower()}
    return Access(
        hosts=names,
        proxies=proxies,
        allows_addresses=not config.is_loopback,
        token=config.token if needs_token else None,
        cors_origin=config.cors_origin,
        cookie_name=f"weft-session-{config.port}",
    )


def check_request(access: Access, request: web.Request) -> None:
    """Let a request pass or say why not. Raises: Refused, TokenRequired."""
    _check_host(access, request.headers.getall(hdrs.HOST, []))
    _check_origin(access, request)
    is_preflight = request.method == "OPTIONS"
    if access.token is None or is_preflight or request.path in OPEN_PATHS:
        return
    if not _has_token(access, request):
        raise TokenRequired(
            "This server asks for a token.",
            hint="Send it as 'Authorization: Bearer TOKEN', open the address with ?token=TOKEN "
            "once, or use it as the password. It was printed when the server started.",
        )


def _check_host(access: Access, hosts: list[str]) -> None:
    host = host_name(hosts[0]) if len(hosts) == 1 else None
    if host is None:
        raise Refused("The request has no valid Host header.", code="host_not_allowed")
    if host in access.hosts or (access.allows_addresses and _is_address(host)):
        return
    raise Refused(
        f"The host name '{host}' is not one of this server.",
        hint=f"If it should be, start the server with --allow-host {host}",
        code="host_not_allowed",
    )


def host_name(host: str) -> str | None:
    """The name in a Host header, lower case, without port and brackets; None if malformed."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for a port that is none
    except ValueError:
        return None
    if parts.netloc != host or not parts.hostname or parts.username is not None:
        return None
    return parts.hostname.rstrip(".")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_origin(access: Access, request: web.Request) -> None:
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        site = request.headers.get("Sec-Fetch-Site", "none")
        is_navigation = (
            request.headers.get("Sec-Fetch-Mode") == "navigate"
            and request.headers.get("Sec-Fetch-Dest") == "document"
            and request.method == "GET"
        )
        if site in ("none", "same-origin") or is_navigation or access.cors_origin:
            return
        origin = "another site"
    elif is_allowed_origin(access, origin, request.headers.get(hdrs.HOST, "")):
        return
    raise Refused(
        f"A web page of {origin[:200]} may not use this server.",
        hint="If it should, start the server with --enable-cors-header ORIGIN",
        code="origin_not_allowed",
    )


def is_allowed_origin(access: Access, origin: str, host: str) -> bool:
    """Whether pages of `origin` may use the server that they reached as `host`."""
    if access.cors_origin in ("*", origin):
        return True
    scheme, _, authority = origin.partition("://")
    if scheme not in ("http", "https"):
        return False
    default = {"http": ":80", "https": ":443"}[scheme]
    is_same = authority.lower().removesuffix(default) == host.lower().removesuffix(default)
    return is_same or host_name(authority) in access.proxies


def _has_token(access: Access, request: web.Request) -> bool:
    token = (access.token or "").encode()
    scheme, _, value = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return hmac.compare_digest(_bytes(value.strip()), token)
    if scheme.lower() == "basic":
        return hmac.compare_digest(_password(value), token)
    if has_query_token(access, request):
        return True
    cookie = request.cookies.get(access.cookie_name, "")
    return hmac.compare_digest(_bytes(cookie), access.session.encode())


def has_query_token(access: Access, request: web.Request) -> bool:
    """Whether the address carries the right `?token=`."""
    given = request.query.get("token")
    return (
        given is not None
        and access.token is not None
        and hmac.compare_digest(_bytes(given), access.token.encode())
    )


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")


def _password(credentials: str) -> bytes:
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


def set_session_cookie(access: Access, request: web.Request, response: web.StreamResponse) -> None:
    """Remember the browser, so that the token need not stand in addresses."""
    response.set_cookie(
        access.cookie_name,
        access.session,
        max_age=SESSION_S,
        httponly=True,
        secure=request.secure,
        samesite="Strict",
    )


def cors_headers(access: Access, request: web.Request) -> Mapping[str, str]:
    """The headers that let the allowed other origin read the answer; none without that flag."""
    origin = request.headers.get(hdrs.ORIGIN)
    if not access.cors_origin or origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": access.cors_origin,
        "Access-Control-Allow-Methods": "GET, POST, DELETE, PUT, OPTIONS, PATCH",
        "Access-Control-Allow-Headers": "Content-Type, Authorization, Idempotency-Key",
        "Vary": "Origin",
    }
