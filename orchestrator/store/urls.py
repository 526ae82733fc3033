"""Which URL each role of the database uses, whether the server is embedded or given by DATABASE_URL.

Four identities: an administrator, used while roles and database are made and never afterwards, and the
three roles `owner` (migrations), `service` (scheduler, executors) and `api` (replicas).
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from orchestrator.errors import SettingsError
from orchestrator.settings import Database

OWNER = "orchestrator_owner"
SERVICE = "orchestrator_service"
API = "orchestrator_api"
_SCHEMES = ("postgresql", "postgres")  # what libpq knows
_SALT = b"coditect-orchestrator roles"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrls:
    """The libpq URLs of one database; all hold passwords and are never shown.

    Attributes:
        admin: user who may create roles; empty when the three roles were given and are not ours to make.
        owner: owns the tables, runs the migrations; not a superuser. Past a pooler.
        service: all rows by explicit policy.
        api: rows of the tenant that the transaction names.
        direct: `service` past a pooler, for the committer and the listener.
    """

    admin: str = field(repr=False)
    owner: str = field(repr=False)
    service: str = field(repr=False)
    api: str = field(repr=False)
    direct: str = field(repr=False)


def external_urls(
    url: str, *, owner: str = "", service: str = "", api: str = "", direct: str = ""
) -> DatabaseUrls:
    """Return the URLs for DATABASE_URL and its companions.

    Without the URLs of the three roles, their names are fixed and their passwords are derived from the
    password in `url`, so that every node that knows DATABASE_URL knows them too and none stores them.

    Raises:
        SettingsError: one is no URL of a PostgreSQL, some but not all of the three are given, or there is no
            password to derive from.
    """
    given = {"": url, "_OWNER": owner, "_SERVICE": service, "_API": api, "_DIRECT": direct}
    for suffix, text in given.items():
        if text and not _is_postgres_url(text):
            raise SettingsError(
                f"DATABASE_URL{suffix} is no URL of a PostgreSQL.",
                remedy="Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE; in user and password an @ is "
                "%40, a / is %2F and a # is %23.",
            )
    direct = direct or url
    if owner and service and api:
        return DatabaseUrls(
            admin="", owner=owner, service=service, api=api, direct=_with_user_of(service, direct)
        )
    if owner or service or api:
        raise SettingsError(
            "Some of DATABASE_URL_OWNER, DATABASE_URL_SERVICE and DATABASE_URL_API are set, but not all.",
            remedy="Set all three, or none and let the user of DATABASE_URL create the roles.",
        )
    password = urlsplit(url).password
    if not password:
        raise SettingsError(
            "DATABASE_URL holds no password, so none can be derived for the three roles.",
            remedy="Put one into it, or set DATABASE_URL_OWNER, DATABASE_URL_SERVICE and DATABASE_URL_API.",
        )
    passwords = _derived_passwords(unquote(password))
    return DatabaseUrls(
        admin=direct,
        owner=_with_user(direct, OWNER, passwords[OWNER]),
        service=_with_user(url, SERVICE, passwords[SERVICE]),
        api=_with_user(url, API, passwords[API]),
        direct=_with_user(direct, SERVICE, passwords[SERVICE]),
    )


def settings_urls(database: Database) -> DatabaseUrls:
    """Return the URLs that the settings give; only for a database that is not the embedded one.

    Raises:
        SettingsError: as `external_urls`.
    """
    return external_urls(
        database.url.get_secret_value(),
        owner=database.url_owner.get_secret_value(),
        service=database.url_service.get_secret_value(),
        api=database.url_api.get_secret_value(),
        direct=database.url_direct.get_secret_value(),
    )


def _is_postgres_url(text: str) -> bool:
    """Tell whether libpq takes `text` for a URL, and finds the same password in it as we do.

    Its reason is not passed on: it quotes the URL, with the password in it.
    """
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts, found = urlsplit(text), conninfo_to_dict(text)
    except (ValueError, ProgrammingError):
        return False
    is_same = unquote(parts.password or "") == (found.get("password") or "")
    return parts.scheme in _SCHEMES and is_same


def _derived_passwords(password: str) -> dict[str, str]:
    """Return role → password, from which nobody can find the other password (scrypt, RFC 7914)."""
    key = hashlib.scrypt(password.encode(), salt=_SALT, n=2**14, r=8, p=1)
    return {role: hmac.new(key, role.encode(), "sha256").hexdigest() for role in (OWNER, SERVICE, API)}


def _with_user(url: str, user: str, password: str) -> str:
    return _with_credentials(url, f"{quote(user, safe='')}:{quote(password, safe='')}")


def _with_user_of(source: str, url: str) -> str:
    return _with_credentials(url, urlsplit(source).netloc.rpartition("@")[0])


def _with_credentials(url: str, credentials: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]  # may name several hosts, which urlsplit does not understand
    return urlunsplit(parts._replace(netloc=f"{credentials}@{place}"))
