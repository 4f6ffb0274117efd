"""Checks of services' addresses, and forms of them without secrets."""

from __future__ import annotations

import hashlib
import ipaddress
from urllib.parse import urlsplit, urlunsplit

from cfbuild.errors import ConfigError
from cfbuild.text.safe import discreet


def checked_url(url: str) -> str:
    """Return `url` if it is an http(s) URL with a host. Raises ConfigError otherwise."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{redact(url)!r} is not a URL ({error})") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.fragment:
        raise ConfigError(f"{redact(url)!r} is not usable; expected an http or https URL with a host and no #fragment")
    # Libraries do not agree on which host a URL with a backslash names.
    if any(character in "\\ " or not character.isprintable() for character in url):
        raise ConfigError(f"{redact(url)!r} holds white space, a backslash or a control character")
    return url


def redact(url: str) -> str:
    """Return `url` for messages and files: without user and password, and with a digest in place of the query."""
    try:
        parts = urlsplit(without_user(url))
    except ValueError:
        return "(a malformed URL)"
    if not parts.netloc:  # The text is no URL, and what comes before an @ may be a password.
        return url.rpartition("@")[2].partition("?")[0]
    digest = hashlib.sha256(parts.query.encode()).hexdigest()[:12]
    query = f"sha256-{digest}" if parts.query else ""
    return discreet(urlunsplit((parts.scheme, parts.netloc, parts.path, query, "")))


def without_user(url: str) -> str:
    """Return `url` without user and password. Raises ValueError if it is malformed."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, parts.fragment))


def is_public(url: str) -> bool:
    """Return True if a URL's host is a name with a dot or a public IP address. Raises ValueError if it is malformed."""
    host = urlsplit(url).hostname or ""
    try:
        return not ipaddress.ip_address(host).is_private
    except ValueError:
        return "." in host.rstrip(".")


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return the scheme, host and port of a URL, which a redirect must not change."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port
