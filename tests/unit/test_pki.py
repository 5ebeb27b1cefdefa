"""The authority: what it issues, what it takes back, and who can read its files."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from typer.testing import CliRunner

from oodida.cli.app import app
from oodida.pki import Pki
from protocol import identity
from protocol.errors import (
    AuthorityExists,
    BadRequest,
    BadToken,
    NoAuthority,
    NotEnrolled,
    WrongName,
)
from protocol.identity import Identity
from protocol.link import private
from protocol.link.enrolment import signing_request

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
CAR = identity.of("vehicle", "car-1")


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki.init(tmp_path / "pki", ["localhost", "127.0.0.1", "::1"], NOW)


def revoked(pki: Pki) -> set[int]:
    listed = x509.load_pem_x509_crl((pki.folder / "broker" / "crl.pem").read_bytes())
    return {one.serial_number for one in listed}


def openssl(*words: str | Path) -> str:
    done = subprocess.run(
        ["openssl", *map(str, words)],  # noqa: S607 - wherever this machine has it
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_nobody_else_can_read_a_key(pki: Pki) -> None:
    folder, _ = pki.enroll(CAR, NOW)
    shared = pki.folder / "revoked"  # no secret, and in a folder that nobody else may enter
    assert [p.name for p in shared.iterdir()] == ["crl.pem"]
    assert (shared / "crl.pem").stat().st_mode & 0o777 == 0o644
    everything = [pki.folder, *(p for p in pki.folder.rglob("*") if shared not in (p, p.parent))]
    for path in everything:
        assert path.stat().st_mode & 0o077 == 0, path
    assert {p.name for p in folder.iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    assert not [p for p in everything if p.name.startswith(".")], "a half-written file"


def test_a_certificate_proves_a_client_and_the_brokers_proves_a_server(pki: Pki) -> None:
    long = identity.of("orchestrator", "o" * 64)
    folder, made = pki.enroll(long, NOW)
    client = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
    server = x509.load_pem_x509_certificate((pki.folder / "broker" / "cert.pem").read_bytes())
    for certificate, purpose in (
        (client, ExtendedKeyUsageOID.CLIENT_AUTH),
        (server, ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [purpose]
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    (name,) = client.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    (role,) = client.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert (role.value, name.value) == long
    assert client.not_valid_after_utc == made.until == NOW + dt.timedelta(days=30)


def test_openssl_takes_what_is_issued_and_what_is_taken_back(pki: Pki) -> None:
    folder, _ = pki.enroll(CAR, NOW)
    ca, crl = folder / "ca.pem", pki.folder / "broker" / "crl.pem"
    verify: list[str | Path] = ["verify", "-CAfile", ca, "-CRLfile", crl, "-crl_check"]
    client: list[str | Path] = [*verify, "-purpose", "sslclient", folder / "cert.pem"]
    broker = pki.folder / "broker" / "cert.pem"
    assert "OK" in openssl(*client)
    assert "OK" in openssl(*verify, "-purpose", "sslserver", broker)
    assert "unsuitable certificate purpose" in openssl(*verify, "-purpose", "sslclient", broker)
    pki.revoke(CAR, NOW)
    assert "certificate revoked" in openssl(*client)


def test_revoking_takes_back_all_certificates_of_a_name_and_no_other(pki: Pki) -> None:
    same_name = identity.of("worker", "car-1")
    first, second = pki.enroll(CAR, NOW)[1], pki.enroll(CAR, NOW)[1]
    other = pki.enroll(same_name, NOW)[1]
    assert {one.serial for one in pki.revoke(CAR, NOW)[0]} == {first.serial, second.serial}
    assert revoked(pki) == {first.serial, second.serial}
    again = pki.enroll(CAR, NOW)[1]
    assert revoked(pki) == {first.serial, second.serial}
    valid = {one.serial for one in Pki(pki.folder).issued() if one.valid(NOW)}
    assert valid == {other.serial, again.serial}


def test_revoking_takes_back_what_could_be_exchanged_for_a_new_certificate(pki: Pki) -> None:
    same_name = identity.of("worker", "car-1")
    key = Ed25519PrivateKey.generate()
    other = pki.token(same_name, NOW, 60)
    pki.enroll(CAR, NOW)
    early, late = pki.token(CAR, NOW, 60), pki.token(CAR, NOW, 7 * 24 * 60)
    assert len(pki.revoke(CAR, NOW)[0]) == 1
    for secret in (early, late):
        with pytest.raises(BadToken, match="vehicle:car-1 was taken back"):
            pki.redeem(secret, signing_request(key, CAR), NOW)
    assert pki.redeem(other, signing_request(key, same_name), NOW)[0] == same_name
    again = pki.token(CAR, NOW, 60)
    assert pki.revoke(CAR, NOW) == ([], 1), "a token alone can be taken back too"
    with pytest.raises(BadToken):
        pki.redeem(again, signing_request(key, CAR), NOW)
    with pytest.raises(NotEnrolled):
        pki.revoke(CAR, NOW)


@pytest.mark.parametrize("name", ["../../../escaped", "/escaped", "", ".."])
def test_what_is_no_name_makes_no_path(pki: Pki, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BadRequest, match="is no name"):
        pki.enroll(Identity("analyst", name), NOW)
    with pytest.raises(BadRequest, match="is no name"):
        pki.token(Identity("analyst", name), NOW, 5)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_never_enrolled_or_has_expired_long_ago_cannot_be_revoked(pki: Pki) -> None:
    with pytest.raises(NotEnrolled, match="vehicle:car-1 has no certificate"):
        pki.revoke(CAR, NOW)
    pki.enroll(CAR, NOW, days=1)
    with pytest.raises(NotEnrolled):
        pki.revoke(CAR, NOW + dt.timedelta(days=10))
    assert len(pki.revoke(CAR, NOW + dt.timedelta(days=8))[0]) == 1  # a report may be on its way


@pytest.mark.parametrize("who", ["analyst:ada", "orchestrator:o-1"])
def test_with_a_name_all_its_certificates_are_taken_back_also_the_renewed(
    pki: Pki, who: str
) -> None:
    """What analysts and the cloud have signed holds longer than their certificate does."""
    name = identity.parse(who)
    for days in (0, 20, 40):
        pki.enroll(name, NOW + dt.timedelta(days=days))
    assert len(pki.revoke(name, NOW + dt.timedelta(days=41))[0]) == 3
    with pytest.raises(NotEnrolled):
        pki.revoke(name, NOW + dt.timedelta(days=41))


def test_no_certificate_outlives_its_authority_or_is_valid_for_long(pki: Pki) -> None:
    late = NOW + dt.timedelta(days=3645)
    assert pki.enroll(CAR, late)[1].until == NOW + dt.timedelta(days=3650)
    for days in (0, -1, 826, float("nan"), float("inf")):
        with pytest.raises(BadRequest, match="--days"):
            pki.enroll(CAR, NOW, days=days)


def test_the_brokers_certificate_is_renewed_for_the_hosts_that_it_had(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    asked = ("--host", "broker.example", "--host", "10.0.0.5")
    assert command("pki", "init", pki, *asked)[0] == 0
    told = json.loads(command("pki", "renew", "--pki", pki, "--json")[1])
    assert told["hosts"] == ["broker.example", "10.0.0.5"]
    told = json.loads(command("pki", "renew", "--pki", pki, "--host", "other", "--json")[1])
    assert told["hosts"] == ["other"] == Pki(pki).broker_hosts()
    (pki / "broker" / "cert.pem").unlink()
    assert Pki(pki).broker_hosts() == []


def test_a_folder_of_somebody_else_is_left(pki: Pki, tmp_path: Path) -> None:
    ada, folder = identity.of("analyst", "ada"), tmp_path / "ada"
    pki.enroll(ada, NOW, to=folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for other in (CAR, identity.of("vehicle", "ada")):
        with pytest.raises(WrongName, match=f"ada holds analyst:ada.* {other} another folder"):
            pki.enroll(other, NOW, to=folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert [one.who for one in pki.issued()] == [ada], "nothing was issued"
    with pytest.raises(WrongName, match="the broker's"):
        pki.enroll(CAR, NOW, to=pki.folder / "broker")
    pki.enroll(ada, NOW + dt.timedelta(days=60), to=folder)  # of the same name it is a renewal
    (folder / "cert.pem").write_bytes(b"nothing")
    pki.enroll(CAR, NOW, to=folder)  # what is no certificate is nobody's


def test_many_that_enrol_at_once_are_all_in_the_ledger(pki: Pki) -> None:
    def enrol(number: int) -> None:
        Pki(pki.folder).enroll(identity.of("vehicle", f"car-{number}"), NOW)

    threads = [threading.Thread(target=enrol, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.who.name for one in pki.issued()} == {f"car-{n}" for n in range(12)}


def test_an_authority_is_never_made_over_another(pki: Pki) -> None:
    before = (pki.folder / "ca.key").read_bytes()
    with pytest.raises(AuthorityExists):
        Pki.init(pki.folder, ["localhost"], NOW)
    assert (pki.folder / "ca.key").read_bytes() == before


@pytest.mark.parametrize("host", ["", "a b", "*", "höst", "a/b", "a..b", "x" * 300])
def test_a_host_that_is_none_makes_no_authority(tmp_path: Path, host: str) -> None:
    with pytest.raises(BadRequest, match="neither a host"):
        Pki.init(tmp_path / "pki", [host], NOW)
    assert not (tmp_path / "pki").exists()


def test_a_broken_authority_says_so(pki: Pki, tmp_path: Path) -> None:
    with pytest.raises(NoAuthority, match=r"/nowhere holds .* --pki .* none yet: `oodida pki init"):
        Pki(tmp_path / "nowhere")
    with (pki.folder / "ledger.jsonl").open("a") as file:
        file.write('{"issued": "vehicle:car/+"}\n')
    with pytest.raises(NoAuthority, match="line 1"):
        pki.issued()
    (pki.folder / "ca.key").write_bytes(b"nothing")
    with pytest.raises(NoAuthority):
        Pki(pki.folder)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.pem"
    private.write(path, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        private.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def command(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(w) for w in words])
    return done.exit_code, done.output


def test_the_commands_from_nothing_to_revoked(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    assert command("pki", "init", pki, "--host", "broker.example")[0] == 0
    status, said = command("enroll", "vehicle", "car-1", "--pki", pki, "--json")
    assert status == 0
    assert Path(json.loads(said)["folder"], "key.pem").is_file()
    assert command("enroll", "worker", "car-1", "--pki", pki, "--to", tmp_path / "w")[0] == 0
    assert (tmp_path / "w" / "cert.pem").is_file()
    status, said = command("revoke", "car-1", "--pki", pki, "--json")
    error = json.loads(said)["error"]
    assert (status, error["code"]) == (1, "bad_request")
    assert "car-1 is vehicle:car-1 and worker:car-1: say which one" in error["message"]
    status, said = command("revoke", "vehicle:car-1", "--pki", pki, "--json")
    assert [one["state"] for one in json.loads(said)] == ["revoked"]
    status, said = command("pki", "list", "--pki", pki, "--json")
    states = {one["name"]: one["state"] for one in json.loads(said)}
    assert states == {"vehicle:car-1": "revoked", "worker:car-1": "valid"}
    for words, code in (
        (("enroll", "vehicle", "a/b"), "bad_request"),
        (("enroll", "admin", "a"), "bad_request"),
        (("revoke", "vehicle:car-1"), "not_enrolled"),
        (("revoke", "vehicle", "car-1"), "not_enrolled"),
        (("revoke", "car-1", "car-2"), "bad_request"),
        (("revoke", "vehicle", "car-1", "car-2"), "bad_request"),
        (("revoke", "nobody"), "not_enrolled"),
        (("pki", "init", pki), "authority_exists"),
    ):
        extra = () if words[0] == "pki" else ("--pki", pki)
        status, said = command(*words, *extra, "--json")
        assert (status, json.loads(said)["error"]["code"]) == (1, code)


@pytest.mark.parametrize("words", [("worker", "w"), ("worker:w",), ("w",)])
def test_who_is_revoked_is_said_as_for_enroll_or_by_a_name_that_is_one_alone(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    pki = tmp_path / "pki"
    assert command("pki", "init", pki, "--host", "broker.example")[0] == 0
    for role, name in (("worker", "w"), ("vehicle", "car-1")):
        assert command("enroll", role, name, "--pki", pki)[0] == 0
    status, said = command("revoke", *words, "--pki", pki)
    assert (status, "worker:w: its certificate revoked" in said.replace("\n", " ")) == (0, True)
    states = {
        one["name"]: one["state"]
        for one in json.loads(command("pki", "list", "--pki", pki, "--json")[1])
    }
    assert states == {"worker:w": "revoked", "vehicle:car-1": "valid"}
    assert command("enroll", "worker", "w", "--token", "--at", "h:1", "--pki", pki)[0] == 0
    status, said = command("revoke", "worker", "w", "--pki", pki)
    assert (status, said.strip()) == (0, "worker:w: an unused token is good no more")


def test_many_are_enrolled_by_their_numbers(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    assert command("pki", "init", pki, "--host", "broker.example")[0] == 0
    status, said = command("enroll", "vehicle", "sim-", "--count", "3", "--pki", pki, "--json")
    told = [json.loads(line) for line in said.splitlines()]
    assert (status, [one["name"] for one in told]) == (
        0, ["vehicle:sim-00001", "vehicle:sim-00002", "vehicle:sim-00003"],
    )  # fmt: skip
    assert all(Path(one["folder"], "key.pem").is_file() for one in told)
    words = ("enroll", "vehicle", "x-", "--count", "2", "--pki", pki, "--to", tmp_path / "out")
    assert command(*words)[0] == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["x-00001", "x-00002"]
    status, said = command(*words[:5], "--token", "--at", "h:1", "--pki", pki, "--json")
    assert (status, json.loads(said)["error"]["code"]) == (1, "bad_request")


def test_of_many_none_is_enrolled_where_one_has_no_place(pki: Pki, tmp_path: Path) -> None:
    every = [identity.of("vehicle", f"car-{n}") for n in range(3)]
    pki.enroll(CAR, NOW, to=tmp_path / "taken")
    places = {who: tmp_path / who.name for who in every}
    with pytest.raises(WrongName):
        pki.enroll_all(places | {identity.of("vehicle", "car-9"): tmp_path / "taken"}, NOW)
    assert [one.who for one in pki.issued()] == [CAR]
    made = pki.enroll_all({who: tmp_path / who.name for who in every}, NOW)
    assert pki.issued()[1:] == made
    assert [one.who for one in made] == every


def test_more_than_go_in_one_step_are_told_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oodida.cli.trust.TOGETHER", 2)
    pki = tmp_path / "pki"
    assert command("pki", "init", pki, "--host", "broker.example")[0] == 0
    status, said = command("enroll", "vehicle", "s-", "--count", "5", "--pki", pki)
    assert status == 0
    assert said.splitlines()[:3] == ["2 of 5", "4 of 5", "5 of 5"]
    assert [one.who.name for one in Pki(pki).issued()] == [f"s-0000{n}" for n in range(1, 6)]
