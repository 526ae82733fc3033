"""The URLs of the roles."""

from urllib.parse import urlsplit

import pytest

from orchestrator.errors import SettingsError
from orchestrator.store.urls import external_urls

URL = "postgresql://ada:s%40cret@db.example:6432/work?sslmode=require"
DIRECT = "postgresql://ada:s%40cret@db.example:5432/work?sslmode=require"


def test_roles_get_their_own_names_and_passwords():
    urls = external_urls(URL)
    parts = [urlsplit(url) for url in (urls.owner, urls.service, urls.api)]
    assert [part.username for part in parts] == [
        "orchestrator_owner",
        "orchestrator_service",
        "orchestrator_api",
    ]
    assert len({part.password for part in parts} | {"s@cret", "s%40cret"}) == 5
    assert {(part.hostname, part.port, part.path, part.query) for part in parts} == {
        ("db.example", 6432, "/work", "sslmode=require")
    }
    assert urls.admin == URL


def test_every_node_derives_the_same_passwords_and_another_password_others():
    assert external_urls(URL) == external_urls(URL)
    other = external_urls(URL.replace("s%40cret", "other"))
    assert urlsplit(other.api).password != urlsplit(external_urls(URL).api).password


def test_administrator_owner_and_committer_go_past_the_pooler():
    urls = external_urls(URL, direct=DIRECT)
    ports = {
        name: urlsplit(getattr(urls, name)).port for name in ("admin", "owner", "direct", "service", "api")
    }
    assert ports == {"admin": 5432, "owner": 5432, "direct": 5432, "service": 6432, "api": 6432}
    assert urlsplit(urls.direct).username == "orchestrator_service"


def test_given_roles_are_taken_as_they_are_and_nobody_administrates():
    given = {name: f"postgresql://{name}:p%2Fw@db.example:6432/work" for name in ("owner", "service", "api")}
    urls = external_urls(URL, **given, direct=DIRECT)
    assert (urls.admin, urls.owner, urls.service, urls.api) == ("", *given.values())
    assert urls.direct == "postgresql://service:p%2Fw@db.example:5432/work?sslmode=require"


def test_several_hosts_are_kept():
    urls = external_urls("postgresql://ada:pw@one:5432,two:5433/work?target_session_attrs=read-write")
    assert urls.owner.endswith("@one:5432,two:5433/work?target_session_attrs=read-write")


@pytest.mark.parametrize("given", [{"owner": URL}, {"service": URL, "api": URL}])
def test_some_roles_but_not_all_are_refused(given):
    with pytest.raises(SettingsError, match=r"Set all three"):
        external_urls(URL, **given)


@pytest.mark.parametrize("url", ["postgresql://ada@db.example/work", "postgresql://db.example/work"])
def test_url_without_password_is_refused_with_the_remedy(url):
    with pytest.raises(SettingsError, match=r"no password.*DATABASE_URL_OWNER"):
        external_urls(url)


@pytest.mark.parametrize(
    "url",
    [
        "nonsense cret",
        "mysql://ada:cret@db.example/work",
        "host=db.example password=cret",
        "postgresql://ada:cret@db.example/work?bad=1",
        "postgresql://ada:cret%zz@db.example/work",
        "postgresql://ada:se@cret@db.example/work",
        "postgresql://ada:cret@[::1/work",
    ],
)
def test_what_is_no_url_is_refused_without_showing_it(url):
    with pytest.raises(SettingsError, match=r"DATABASE_URL_DIRECT is no URL.*%40") as refused:
        external_urls(URL, direct=url)
    assert "cret" not in str(refused.value)
    with pytest.raises(SettingsError, match=r"DATABASE_URL is no URL"):
        external_urls(url)


def test_no_repr_shows_a_url():
    assert "cret" not in repr(external_urls(URL))
