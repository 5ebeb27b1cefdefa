"""Certificates for a system that lives no longer than the process that started it."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from oodida.pki import Pki
from protocol import identity
from protocol.identity import IdentityRole

#: Longer than anybody leaves a local system running, in days.
DAYS: Final = 30.0


class Throwaway:
    """An authority in a folder of the system's own, and whom it has enrolled."""

    def __init__(self, folder: Path) -> None:
        self._pki = Pki.init(folder, ["localhost", "127.0.0.1"], _now())

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self._pki.folder / "ca.pem"

    @property
    def revoked(self) -> Path:
        """The authority's list of what it took back."""
        return self._pki.folder / "revoked" / "crl.pem"

    def enroll(self, role: IdentityRole, name: str) -> Path:
        """The folder that proves a name. Raises BadRequest if it is none."""
        return self._pki.enroll(identity.of(role, name), _now(), DAYS)[0]

    def broker(self) -> Mapping[str, object]:
        """What a container of the broker needs to ask for certificates."""
        folder = self._pki.folder / "broker"
        owner = folder.stat()
        return {
            "command": ["-c", "/etc/mosquitto/secure.conf"],
            "volumes": {str(folder): {"bind": "/etc/mosquitto/identity", "mode": "ro"}},
            # Its key can be read by its owner alone; root has handed it to the image's own user.
            "user": None if os.geteuid() == 0 else f"{owner.st_uid}:{owner.st_gid}",
        }


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
