"""What an analyst asks for has one form, and so has what it was resolved to."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from pydantic import ValidationError

from protocol.environment import (
    MAX_REQUIREMENTS,
    EnvironmentSpec,
    Lock,
    Locked,
    WheelRef,
    normalised,
    wheel_of,
)
from protocol.errors import EnvironmentRefused, OodidaError, from_code

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
VERSIONS = st.lists(st.integers(0, 99), min_size=1, max_size=4).map(lambda n: ".".join(map(str, n)))
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
OPERATORS = st.sampled_from(["==", ">=", "<=", "<", ">", "!="])


@st.composite
def requirements(draw: st.DrawFn) -> str:
    extras = draw(st.lists(NAMES, max_size=2, unique=True))
    versions = draw(st.lists(st.tuples(OPERATORS, VERSIONS), max_size=3, unique=True))
    marker = draw(st.sampled_from(["", '; python_version >= "3.9"', "; sys_platform == 'linux'"]))
    inside = f"[{','.join(extras)}]" if extras else ""
    return f"{draw(NAMES)}{inside}{','.join(op + v for op, v in versions)}{marker}"


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    packages = [
        Locked.of(f"{name}-{draw(VERSIONS)}-py3-none-any.whl", draw(HASHES), draw(SIZES))
        for name in draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    ]
    return Lock(
        base="oodida/sandbox-minimal:0123456789abcdef",
        python="3.13",
        platform="linux_x86_64",
        packages=tuple(packages),
    )


SIZES = st.integers(1, 10**8)
SIX = WheelRef(name="six-1.17.0-py3-none-any.whl", sha256="0" * 64, size=1)


@given(st.lists(requirements(), min_size=1, max_size=8), st.randoms())
def test_the_order_and_the_writing_of_requirements_do_not_matter(
    lines: list[str], r: object
) -> None:
    spec = EnvironmentSpec(requirements=tuple(lines))
    shuffled = list(lines)
    r.shuffle(shuffled)  # type: ignore[attr-defined]
    loose = [
        f"  {line.replace(',', ' , ').upper() if ';' not in line else line} " for line in shuffled
    ]
    again = EnvironmentSpec(requirements=(*loose, *lines[:1]))
    assert again == spec
    assert again.key == spec.key
    assert EnvironmentSpec.model_validate_json(spec.model_dump_json()) == spec


@given(requirements())
def test_the_normal_form_is_stable_and_means_the_same(line: str) -> None:
    once = normalised(line)
    assert normalised(once) == once
    assert Requirement(once) == Requirement(line)


@given(requirements(), requirements())
def test_different_requests_have_different_keys(one: str, other: str) -> None:
    same = normalised(one) == normalised(other)
    keys = {EnvironmentSpec(requirements=(line,)).key for line in (one, other)}
    assert (len(keys) == 1) == same


@pytest.mark.parametrize(
    "line",
    [
        "", " ", "-r /etc/passwd", "--index-url=http://evil", "-e .", "./here", "/etc/passwd",
        "six\n-r x", "six\t-r x", "six @ https://evil/six.whl", "six@file:///etc/passwd",
        "git+https://evil/six", "six --hash=sha256:0", "six # comment", "six\\", "${HOME}",
        "six; python_version == '$(id)'", "six===1.0/../x", "six===1", "six;", "six\0", "sïx",
        "six==", "*", "a" * 201, "six==1.0; extra == 'a\u2028b'",
    ],
)  # fmt: skip
def test_what_is_no_requirement_by_name_is_refused(line: str) -> None:
    with pytest.raises(EnvironmentRefused) as refusal:
        EnvironmentSpec(requirements=(line,))
    assert refusal.value.details["reason_code"] == "bad_requirement"


@given(st.text(max_size=40))
def test_nothing_that_is_accepted_can_pass_for_an_option_or_an_address(line: str) -> None:
    try:
        form = normalised(line)
    except EnvironmentRefused:
        return
    assert re.match(r"[a-z0-9]", form)
    assert not set(form) & set("\n\r/\\@#$:{}`&|\0")


@pytest.mark.parametrize(
    "name",
    ["six.whl", "../six-1.0-py3-none-any.whl", "/six-1.0-py3-none-any.whl", "six-1.0.tar.gz",
     "-six-1.0-py3-none-any.whl", "six-x-py3-none-any.whl", "six-1.0-py3-none-any.whl\n", ""],
)  # fmt: skip
def test_a_wheel_has_the_name_of_one(name: str) -> None:
    assert wheel_of(name) is None
    with pytest.raises(EnvironmentRefused):
        WheelRef(name=name, sha256="0" * 64, size=1)


def test_a_request_is_not_empty_and_not_endless() -> None:
    with pytest.raises(EnvironmentRefused):
        EnvironmentSpec()
    assert EnvironmentSpec(wheels=(SIX,)).key != EnvironmentSpec(requirements=("six",)).key
    with pytest.raises(ValidationError):
        EnvironmentSpec(requirements=tuple(f"p{n}" for n in range(MAX_REQUIREMENTS + 1)))
    with pytest.raises(EnvironmentRefused):
        EnvironmentSpec(wheels=(SIX, SIX))
    huge = [
        WheelRef(name=f"p{n}-1-py3-none-any.whl", sha256="0" * 64, size=200 * 2**20) for n in (1, 2)
    ]
    with pytest.raises(EnvironmentRefused) as refusal:
        EnvironmentSpec(wheels=tuple(huge))
    assert refusal.value.details["reason_code"] == "too_large"


@given(locks())
def test_a_lock_survives_its_text(lock: Lock) -> None:
    assert Lock.from_text(lock.text()) == lock
    again = Lock.from_text(lock.text())
    assert again.digest == lock.digest
    assert Lock.model_validate_json(lock.model_dump_json()).digest == lock.digest
    backwards = lock.model_copy(update={"packages": lock.packages[::-1]})
    assert Lock.model_validate(backwards.model_dump()).digest == lock.digest


@given(locks(), st.data())
def test_any_change_of_a_lock_is_refused_or_another_lock(lock: Lock, data: st.DataObject) -> None:
    text = lock.text()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from("a0 \n#\\x")) + text[at + 1 :]
    try:
        other = Lock.from_text(changed)
    except EnvironmentRefused:
        return
    assert other.text() == changed
    assert (other.digest == lock.digest) == (changed == text)


def test_a_lock_is_exact() -> None:
    package = Locked.of("six-1.17.0-py2.py3-none-any.whl", "0" * 64, 1)
    head = {"base": "oodida/sandbox-minimal:x", "python": "3.13", "platform": "linux_x86_64"}
    wrongs: list[dict[str, object]] = [
        {"packages": [package, package]},
        {"packages": []},
        {"packages": [package], "base": "../x\n"},
        {"packages": [package], "python": "3.13\n# x"},
        {"packages": [{**package.model_dump(), "version": "1.18.0"}]},
    ]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            Lock.model_validate({**head, **wrong})


def test_the_error_keeps_its_reason_over_the_wire() -> None:
    with pytest.raises(OodidaError) as refusal:
        normalised("-r x")
    sent = refusal.value
    back = from_code(sent.code, sent.message, sent.details)
    assert isinstance(back, EnvironmentRefused)
    assert back.details["reason_code"] == "bad_requirement"
