"""The fleet's certificate authority: a folder, a few files, and nothing that has to run."""

from __future__ import annotations

from oodida.pki.authority import Authority, Credentials
from oodida.pki.folder import Pki
from oodida.pki.ledger import Issued

__all__ = ["Authority", "Credentials", "Issued", "Pki"]
