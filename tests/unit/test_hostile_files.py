"""Files that fuzzing found to end a program, which now are refused as whatever else is wrong."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.environments.usage import Usage
from edge_runtime.modules import ModuleStore
from edge_runtime.policy import file as policy
from oodida.pki import Pki
from protocol import identity
from protocol.environment import LOCK_HEAD, Lock
from protocol.errors import (
    BadLimits,
    BadPolicy,
    BadRequest,
    BadSignature,
    EnvironmentRefused,
    OodidaError,
)
from protocol.imports import rules
from protocol.limits import Profiles
from protocol.module import Side
from protocol.signing import Signer, Trust

DEEP = b"[" * 100_000
DIGITS = b"9" * 5000
READERS: dict[str, tuple[Callable[[Path], object], type[OodidaError]]] = {
    "profiles": (Profiles.read, BadLimits),
    "import rules": (rules.read, BadRequest),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "content", [b"a = " + DEEP, b"a = " + DIGITS, b"a = {}\ndefault = 1\n", b"[both]\n\xff"]
)
def test_a_file_of_settings_is_refused(tmp_path: Path, reader: str, content: bytes) -> None:
    read, error = READERS[reader]
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(error):
        read(path)


@pytest.mark.parametrize(
    "content", [DEEP, DIGITS, b'{"generation":1e999,"reason":""}', b'{"a":1,"a":2}', b'{"a":[]}']
)
def test_what_a_vehicle_wrote_down_and_cannot_read_is_left(tmp_path: Path, content: bytes) -> None:
    for name in ("ada@m.json", "ada@m.refused", "usage.json"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "ada@m.py").write_text("def custom_code(w): return 1")
    assert ModuleStore(tmp_path, Side.ONBOARD).get("ada", "m") is None
    assert Usage(tmp_path / "usage.json").used() == {}


def test_a_number_too_large_for_a_time_is_no_time(tmp_path: Path) -> None:
    (tmp_path / "usage.json").write_bytes(b'{"a":' + b"9" * 400 + b"}")
    assert Usage(tmp_path / "usage.json").used() == {}


def test_a_lock_whose_head_names_other_fields_is_none() -> None:
    head = f"{LOCK_HEAD}\n# packages x\n# base y\n# python 3.13\n"
    with pytest.raises(EnvironmentRefused, match="no lock"):
        Lock.from_text(head)


def test_a_policy_with_a_number_without_end_is_refused() -> None:
    with pytest.raises(BadPolicy):
        policy.parse("a = " + DIGITS.decode(), Profiles.read())


def test_a_certificate_of_a_version_that_there_is_not_vouches_for_nobody(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    pki = Pki.init(tmp_path / "pki", ["localhost"], now)
    folder, _ = pki.enroll(identity.of("analyst", "ada"), now)
    good = Signer(folder).sign("a", {}, now.timestamp())
    data = bytearray(base64.b64decode(good.certificate))
    data[data.index(b"\xa0\x03\x02\x01\x02") + 4] = 3
    strange = good.model_copy(update={"certificate": base64.b64encode(data).decode()})
    with pytest.raises(BadSignature, match="version"):
        Trust.load(folder / "ca.pem").verify(strange, "a", {})
