"""Names of certificates: what is made can be read, and nothing else is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import identity
from protocol.errors import BadRequest
from protocol.identity import ROLES, Identity
from protocol.topics import NAME, is_name

NAMES = st.from_regex(NAME, fullmatch=True).filter(is_name)
CRAFTED = [
    "", "+", "#", "/", "a/b", "a+b", "a#", "..", "-a", "ä", "\u0430", "\u202ea", "a\0", "a\n",
    " a", "a ", "car-1,OU=worker", "car-1/", "vehicle:car-1", "$share", "%u", "%c", "{name}",
    "x" * 65, "x" * 9999,
]  # fmt: skip


@given(st.sampled_from(ROLES), NAMES)
def test_what_is_written_is_read(role: identity.IdentityRole, name: str) -> None:
    who = identity.of(role, name)
    assert identity.parse(str(who)) == who == Identity(role, name)


@given(st.text(max_size=80))
def test_whatever_is_read_is_written_the_same(text: str) -> None:
    try:
        who = identity.parse(text)
    except BadRequest:
        return
    assert str(who) == text
    assert is_name(who.name)


@given(st.sampled_from(ROLES), NAMES, NAMES, NAMES)
def test_no_client_id_is_that_of_another(role: str, a: str, b: str, part: str) -> None:
    one, other = identity.of(role, a), identity.of(role, b)
    if one != other:
        for mine in (one.client_id(), one.client_id(part)):
            assert mine != other.client_id()
            assert not mine.startswith(other.client_id() + "/")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_names_are_refused(role: str, name: str) -> None:
    with pytest.raises(BadRequest, match="is no name"):
        identity.of(role, name)
    with pytest.raises(BadRequest, match="is no name"):
        identity.parse(f"{role}:{name}")


@pytest.mark.parametrize("text", ["car-1", "", ":", ":car-1", "admin:a", "vehicles:a", "Vehicle:a"])
def test_crafted_roles_are_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        identity.parse(text)


@pytest.mark.parametrize("role", ["viewer", "operator", "administrator"])
def test_a_role_of_analysts_is_told_from_one_that_is_none(role: str) -> None:
    with pytest.raises(BadRequest, match=f"Each {role} is enrolled as an analyst"):
        identity.of(role, "grace")
    with pytest.raises(BadRequest, match=r"analyst$"):
        identity.of("admin", "grace")
