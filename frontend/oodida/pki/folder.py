"""The authority's folder.

ca.pem, ca.key          the authority; whoever has the key can be anybody
ledger.jsonl            what was issued and revoked
tokens.jsonl            which tokens were made, used and taken back: their hashes
broker/                 what the broker is given: ca.pem, cert.pem, key.pem, crl.pem
revoked/                what orchestrators are given: crl.pem; no secret, unlike the broker's key
identities/ROLE/NAME/   what a program is given: ca.pem, cert.pem, key.pem
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from oodida.pki import ledger, tokens
from oodida.pki.authority import Authority, Credentials
from oodida.pki.ledger import Issued
from protocol import identity
from protocol.certificate import CERTIFICATE, strange
from protocol.errors import AuthorityExists, BadRequest, NoAuthority, NotEnrolled, WrongName
from protocol.identity import Identity
from protocol.link import private
from protocol.signing import named

LEDGER: Final = "ledger.jsonl"
TOKENS: Final = "tokens.jsonl"
#: How long certificates are valid, in days: those of programs are short-lived.
DAYS: Final = 30.0
BROKER_DAYS: Final = 397.0
MOST_DAYS: Final = 825.0
#: For how long after it was signed what a vehicle says may still be on its way, and more.
KEPT: Final = dt.timedelta(days=8)
#: The user of the broker's image, whom root hands the broker's files to.
BROKER_USER: Final = 65534


class Pki:
    """A certificate authority in a folder. Raises NoAuthority if there is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            certificate = (folder / "ca.pem").read_bytes()
            key = (folder / "ca.key").read_bytes()
            self._authority = Authority.load(certificate, key)
        except FileNotFoundError:
            raise NoAuthority(
                f"{folder.absolute()} holds no certificate authority: name the one that your "
                "broker knows by --pki or OODIDA_PKI (that of `make up` is compose/run/pki). Only "
                f"if there is none yet: `oodida pki init {folder}`"
            ) from None
        except strange(OSError) as problem:
            raise NoAuthority(f"the certificate authority in {folder}: {problem}") from None

    @classmethod
    def init(cls, folder: Path, hosts: Sequence[str], now: dt.datetime) -> Pki:
        """Make an authority, and what its broker is given. Raises AuthorityExists."""
        if (folder / "ca.key").exists():
            raise AuthorityExists(f"{folder} holds a certificate authority already; it is left")
        authority = Authority.new(now)
        authority.issue_broker(hosts, now, 1)  # a host that is none is told before anything is made
        private.make_folder(folder)
        folder.chmod(0o700)
        private.make_folder(folder / "broker")
        private.make_folder(folder / "identities")
        if os.geteuid() == 0:
            os.chown(folder / "broker", BROKER_USER, BROKER_USER)
        private.write(folder / "ledger.jsonl", b"")
        private.write(folder / "ca.pem", authority.certificate)
        private.write(folder / "ca.key", authority.key)  # last: with it there is an authority
        pki = cls(folder)
        pki.renew_broker(hosts, now)
        pki._publish_revoked([], now)
        return pki

    def renew_broker(
        self, hosts: Sequence[str], now: dt.datetime, days: float = BROKER_DAYS
    ) -> Credentials:
        """A new certificate for the broker."""
        made = self._authority.issue_broker(hosts, now, _days(days))
        self._hand_over(self.folder / "broker", made)
        return made

    def broker_hosts(self) -> list[str]:
        """For which hosts the broker has its certificate; none if it has none."""
        try:
            found = x509.load_pem_x509_certificate((self.folder / "broker/cert.pem").read_bytes())
            names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except strange(OSError):
            return []
        hosts = [str(host) for host in names.get_values_for_type(x509.DNSName)]
        return hosts + [str(address) for address in names.get_values_for_type(x509.IPAddress)]

    def enroll(
        self, who: Identity, now: dt.datetime, days: float = DAYS, to: Path | None = None
    ) -> tuple[Path, Issued]:
        """Give a name a certificate, and with it the folder that proves it.

        Once more is a renewal: the certificate before stays valid until its own end. Raises
        WrongName if the folder is of somebody else, BadRequest if the name is none.
        """
        target = to or self.folder / "identities" / who.role / who.name
        (issued,) = self.enroll_all({who: target}, now, days)
        return target, issued

    def enroll_all(
        self, wanted: Mapping[Identity, Path], now: dt.datetime, days: float = DAYS
    ) -> list[Issued]:
        """The same for many and the folder of each, which takes less time for each."""
        for who in wanted:
            identity.of(*who)  # it becomes a path
        with self._alone():
            for who, target in wanted.items():
                _require_free(target, who)
            made = {who: self._authority.issue(who, now, _days(days)) for who in wanted}
            issued = [Issued(who, one.serial, now, one.until) for who, one in made.items()]
            # First what can be revoked, then what can be used.
            self._append("".join(ledger.issued(*one[:4]) for one in issued))
            for who, target in wanted.items():
                private.make_folder(target)
                self._hand_over(target, made[who])
        return issued

    @property
    def authority(self) -> str:
        """The authority's certificate, as PEM."""
        return self._authority.certificate.decode()

    def issue_keeper(self, hosts: Sequence[str], now: dt.datetime, days: float) -> Credentials:
        """A certificate for whoever answers in the authority's name."""
        return self._authority.issue_broker(hosts, now, days)

    def token(self, who: Identity, now: dt.datetime, minutes: float) -> str:
        """The secret of a new token, with which a name can be enrolled once, and not for long."""
        who, secret = identity.of(*who), tokens.new_secret()
        with self._alone():
            line = tokens.made(secret, who, now + dt.timedelta(minutes=minutes))
            self._append(line, TOKENS)
        return secret

    def redeem(
        self, secret: str, request: str, now: dt.datetime, days: float = DAYS
    ) -> tuple[Identity, Credentials]:
        """Exchange a token for a certificate of a key that was made elsewhere. Raises BadToken."""
        with self._alone():
            who = tokens.redeem(self._tokens(), secret, now)
            made = self._authority.issue_for(who, request, now, days)
            # Used up first: of two who come with one token at most one has a certificate.
            self._append(tokens.used(secret), TOKENS)
            self._append(ledger.issued(who, made.serial, now, made.until))
        return who, made

    def renew_by(
        self, serial: int, request: str, now: dt.datetime, days: float = DAYS
    ) -> tuple[Identity, Credentials]:
        """A new certificate for who has proved to have one. Raises NotEnrolled if it is revoked."""
        with self._alone():
            known = {one.serial: one for one in self.issued()}
            one = known.get(serial)
            if one is None or not one.valid(now):
                raise NotEnrolled("this certificate is not valid, and is not renewed")
            made = self._authority.issue_for(one.who, request, now, days)
            self._append(ledger.issued(one.who, made.serial, now, made.until))
        return one.who, made

    def revoke(self, who: Identity, now: dt.datetime) -> tuple[list[Issued], int]:
        """Take back every certificate of a name, and every token: those, and how many tokens.

        Raises NotEnrolled if it has neither.
        """
        with self._alone():
            known = self.issued()
            taken = [one for one in known if one.who == who and _signs(one, now)]
            good = [one for one in self._tokens().values() if one.who == who and one.good(now)]
            if not taken and not good:
                raise NotEnrolled(
                    f"{who} has no certificate to take back; `oodida pki list` tells who has"
                )
            # Tokens first: with one left, what was taken back could be had anew.
            if good:
                self._append("".join(tokens.revoked(one) for one in good), TOKENS)
            self._append("".join(ledger.revoked(one, now) for one in taken))
            self._publish_revoked(self.issued(), now)
        return taken, len(good)

    def _tokens(self) -> dict[str, tokens.Made]:
        path = self.folder / TOKENS
        return tokens.read(path.read_text().splitlines() if path.exists() else [])

    def issued(self) -> list[Issued]:
        """Every certificate that was ever issued, in order."""
        return ledger.read((self.folder / "ledger.jsonl").read_text().splitlines())

    def _publish_revoked(self, known: Sequence[Issued], now: dt.datetime) -> None:
        """Also what has expired since: old signatures are asked about for ever."""
        revoked = {one.serial: one.revoked for one in known if one.revoked is not None}
        listed = self._authority.revocation_list(revoked, len(revoked), now)
        private.write(self.folder / "broker" / "crl.pem", listed)
        shared = self.folder / "revoked"
        shared.mkdir(exist_ok=True)
        shared.chmod(0o755)
        private.write(shared / "crl.pem", listed, 0o644)

    def _hand_over(self, target: Path, made: Credentials) -> None:
        private.write(target / "ca.pem", self._authority.certificate)
        private.write_pair(target, made.certificate, made.key)

    def _append(self, lines: str, name: str = LEDGER) -> None:
        path = self.folder / name
        before = path.read_bytes() if path.exists() else b""
        private.write(path, before + lines.encode())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time: two that write the ledger at once would lose a line."""
        with (self.folder / "ca.key").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _require_free(target: Path, who: Identity) -> None:
    """Raises WrongName if a folder holds the certificate of another name, which would be lost."""
    try:
        found = x509.load_pem_x509_certificate((target / CERTIFICATE).read_bytes())
    except strange(OSError):
        return  # there is none, or what nobody can use
    try:
        holds = str(named(found))
    except strange(BadRequest):
        holds = "the broker's certificate, or one of another kind"
    if holds != str(who):
        raise WrongName(f"{target} holds {holds}, and is left: give {who} another folder, by --to")


def _days(days: float) -> float:
    if not 0 < days <= MOST_DAYS:
        raise BadRequest(f"--days {days:g}: a certificate is valid above 0 to {MOST_DAYS:g} days")
    return days


def _signs(one: Issued, now: dt.datetime) -> bool:
    """True if what its key has signed, or signs and dates back, may still be taken somewhere.

    What analysts and the cloud have signed holds when their certificate has expired: an assignment,
    a module. Of a vehicle or worker only what was on its way is taken; theirs are many, and the
    list has a size.
    """
    if one.revoked is not None:
        return False
    return one.who.role in ("analyst", "orchestrator") or now < one.until + KEPT
