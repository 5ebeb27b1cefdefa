"""Every target there is, by its name: parsers, of which what a case takes is counted, and parts."""

from __future__ import annotations

from typing import Final

from tests.fuzz.files import FILES
from tests.fuzz.keeper import KEEPER, KEEPER_PART
from tests.fuzz.parts import PARTS as MANY
from tests.fuzz.targets import PARSERS as SENT
from tests.fuzz.trust import TRUST

PARSERS: Final = {**SENT, **FILES, **TRUST, **KEEPER}
PARTS: Final = {**MANY, KEEPER_PART.name: KEEPER_PART}
