"""Logging in through an issuer: against a real one on loopback that signs its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.console import oidc
from server.console.oidc import read_provider
from server.console.roles import Role
from shared.errors import CrossplantError, FileTrouble, InvalidConfig
from tests.support.console import Browser, Site, site
from tests.support.oidc import CLIENT, SECRET, Issuer, issuing, new_key


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as running:
        yield running


def settings_file(
    folder: Path, issuer: str, extra: str = "", roles: str = 'admin = ["boss"]\noperator = ["ops"]'
) -> Path:
    (folder / "secret").write_text(f"{SECRET}\n")
    file = folder / "console.toml"
    file.write_text(
        f'[oidc]\nissuer = "{issuer}"\nclient_id = "{CLIENT}"\nclient_secret_file = "{folder / "secret"}"\n{extra}\n'
        f"[oidc.roles]\n{roles}\n"
    )
    return file


@pytest.fixture
def place(tmp_path: Path, issuer: Issuer) -> Site:
    return site(tmp_path, provider=read_provider(settings_file(tmp_path, issuer.url)))


def log_in(browser: Browser, target: str = "/runs/a") -> httpx.Response:
    """Walk through the whole login; the console's last answer."""
    leaving = browser.get("/login/oidc", params={"next": target})
    assert leaving.status_code == 303, leaving.text
    back = httpx.get(leaving.headers["location"])
    return browser.get(back.headers["location"])


def me(browser: Browser) -> dict[str, Any]:
    found: dict[str, Any] = browser.get("/api/v1/me").json()
    return found


def test_somebody_the_issuer_vouches_for_is_logged_in_and_sent_on(place: Site) -> None:
    browser = place.browser()
    assert "Log in with your organisation" in browser.get("/login").text
    answer = log_in(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/a")
    assert (me(browser)["name"], me(browser)["role"]) == ("ada", "operator")
    assert [entry.action for entry in place.log()][:2] == ["log in", "add account"]


def test_the_same_subject_is_the_same_account_and_follows_its_role(place: Site, issuer: Issuer) -> None:
    first, second = place.browser(), place.browser()
    log_in(first)
    issuer.claims |= {"preferred_username": "renamed", "groups": ["staff", "boss"]}
    log_in(second)
    assert (me(second)["name"], me(second)["role"]) == ("ada", "admin")
    assert me(first)["status"] == 401, "a session from before the change of role does not hold"


def test_another_subject_of_the_same_name_is_another_account(place: Site, issuer: Issuer) -> None:
    log_in(place.browser())
    issuer.claims["sub"] = "u-2"
    other = place.browser()
    log_in(other)
    assert me(other)["name"] == "ada-2"


def test_a_local_account_of_that_name_is_not_taken_over(place: Site) -> None:
    place.browser(Role.ADMIN, name="ada")
    stranger = place.browser()
    log_in(stranger)
    assert (me(stranger)["name"], me(stranger)["role"]) == ("ada-2", "operator")


def test_who_has_no_role_is_not_let_in(place: Site, issuer: Issuer) -> None:
    issuer.claims["groups"] = ["guests"]
    answer = log_in(place.browser())
    assert answer.status_code == 403
    assert "none of the roles" in answer.text


def test_a_disabled_account_is_not_let_in(place: Site) -> None:
    from server.console import accounts
    from tests.support.console import NOBODY

    log_in(place.browser())
    with place.store.session(writes=True) as session:
        accounts.set_disabled(session, NOBODY, "ada", True)
    assert log_in(place.browser()).status_code == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://elsewhere"},
        {"aud": "another"},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"exp": 1},
        {"exp": None},
        {"iat": 2**40},
        {"nonce": "of another login"},
        {"nonce": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 101},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_this_login_is_refused(claims: dict[str, Any], place: Site, issuer: Issuer) -> None:
    issuer.claims |= claims
    browser = place.browser()
    assert log_in(browser).status_code == 401
    assert me(browser)["status"] == 401


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS256"}, {"kid": "unknown", "alg": "RS256"}], ids=str)
def test_a_signature_of_another_kind_is_refused(header: dict[str, Any], place: Site, issuer: Issuer) -> None:
    issuer.header = header
    assert log_in(place.browser()).status_code == 401


def test_a_signature_by_another_key_is_refused(place: Site, issuer: Issuer) -> None:
    issuer.signer = new_key()
    assert log_in(place.browser()).status_code == 401


def test_new_keys_of_the_issuer_are_fetched_once_a_minute_at_most(
    place: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_in(place.browser())
    issuer.key, issuer.kid = new_key(), "two"
    assert log_in(place.browser()).status_code == 401
    monkeypatch.setattr(oidc, "_KEYS_S", 0.0)
    assert log_in(place.browser()).status_code == 303


def test_a_login_that_another_browser_began_is_refused(place: Site) -> None:
    """Else somebody could log a victim in to an account of their own."""
    leaving = place.browser().get("/login/oidc")
    back = httpx.get(leaving.headers["location"])
    assert place.browser().get(back.headers["location"]).status_code == 401


def test_a_code_is_taken_once(place: Site) -> None:
    browser = place.browser()
    leaving = browser.get("/login/oidc")
    back = httpx.get(leaving.headers["location"]).headers["location"]
    assert browser.get(back).status_code == 303
    browser.cookies.set(f"{place.app.state.cookie}-oidc", "x")
    assert browser.get(back).status_code == 401


def test_an_error_of_the_issuer_is_told_and_its_text_is_not_trusted(place: Site) -> None:
    browser = place.browser()
    browser.get("/login/oidc")
    state = browser.cookies[f"{place.app.state.cookie}-oidc"]
    answer = browser.get("/login/oidc/callback", params={"state": state, "error": "<script>alert(1)</script>"})
    assert answer.status_code == 401
    assert "<script>alert" not in answer.text


def test_an_issuer_that_is_gone_is_told_on_the_login_page(tmp_path: Path) -> None:
    with issuing() as issuer:
        file = settings_file(tmp_path, issuer.url)
    answer = site(tmp_path, provider=read_provider(file)).browser().get("/login/oidc")
    assert answer.status_code == 502
    assert "The issuer cannot be asked" in answer.text


def test_without_an_issuer_there_is_no_such_login(tmp_path: Path) -> None:
    browser = site(tmp_path).browser()
    assert browser.get("/login/oidc").status_code == 404
    assert "organisation" not in browser.get("/login").text


def test_a_read_only_console_knows_whom_it_met_before_and_nobody_else(tmp_path: Path, issuer: Issuer) -> None:
    file = settings_file(tmp_path, issuer.url)
    looking = site(tmp_path, provider=read_provider(file), read_only=True)
    assert log_in(looking.browser()).status_code == 403
    log_in(site(tmp_path, provider=read_provider(file)).browser())
    before = len(looking.log())
    assert log_in(looking.browser()).status_code == 303
    assert len(looking.log()) == before


def test_roles_are_found_where_dots_lead(tmp_path: Path, issuer: Issuer) -> None:
    file = settings_file(tmp_path, issuer.url, 'role_claim = "realm_access.roles"')
    issuer.claims["realm_access"] = {"roles": ["boss"]}
    browser = site(tmp_path, provider=read_provider(file)).browser()
    log_in(browser)
    assert me(browser)["role"] == "admin"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "oidc.issuer: Field required."),
        ("x =", "is no TOML"),
        ("[oidc]\nissuer = 'http://id.example.org'\nclient_id = 'a'\n[oidc.roles]", "is no https address"),
        ("[oidc]\nissuer = 'https://x'\nclient_id = 'a'\nspy = 1\n[oidc.roles]", "oidc.spy"),
        ("[oidc]\nissuer = 'https://x'\nclient_id = 'a'\n[oidc.roles]\nroot = ['a']", "oidc.roles.root"),
        ("[oidc]\nissuer = 'https://x'\nclient_id = 'a'\n[oidc.roles]\n[other]", "'other' is no part of it"),
        ("[oidc]\nissuer = 'https://x'\nclient_id = 'a'\nclient_secret_file = '/no/such'\n[oidc.roles]", "/no/such"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_clear_error(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "console.toml"
    file.write_text(text)
    with pytest.raises(CrossplantError) as raised:
        read_provider(file)
    assert isinstance(raised.value, InvalidConfig | FileTrouble)
    assert told in str(raised.value)
