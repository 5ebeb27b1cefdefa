"""Whether a module may run here, and with what. Pure: its text and this runtime's rules decide."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from protocol.contract import Contract, from_source
from protocol.errors import BadContract, BadLimits
from protocol.imports import rules as import_rules
from protocol.imports.rules import ImportRules
from protocol.limits import Limits, Profiles
from protocol.messages import Verdict
from protocol.module import Module

#: Of how many modules it is remembered what was found.
REMEMBERED: Final = 256


@dataclass(frozen=True)
class Rules:
    """What holds on one vehicle or worker, whatever the cloud says."""

    imports: ImportRules
    profiles: Profiles

    @classmethod
    def shipped(cls) -> Rules:
        """Those that hold where nothing else was said."""
        return cls(import_rules.default(), Profiles.read())


@dataclass(frozen=True)
class Admitted:
    """A module that may run here.

    Attributes:
        limits: what each of its calls may use.
        contract: what its result has to be; None if nothing was declared.
        lowered: a word on each limit that is lower here than was asked for.
        note: what its analyst should know of the contract: an annotation that is not checked.
    """

    limits: Limits
    contract: Contract | None
    lowered: tuple[str, ...] = ()
    note: str = ""


class Admission:
    """Admits modules by the same rules; what it found once it knows."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._found: OrderedDict[tuple[str, ...], Admitted | Verdict] = OrderedDict()

    def admit(self, module: Module) -> Admitted | Verdict:
        """Admit a module, or say why not."""
        asked = module.model_dump_json(include={"limits", "returns"})
        key = (module.digest, module.side, asked)
        found = self._found.pop(key, None) or admit(module, self.rules)
        self._found[key] = found
        while len(self._found) > REMEMBERED:
            self._found.popitem(last=False)
        return found


def admit(module: Module, rules: Rules) -> Admitted | Verdict:
    """Admit a module, or say why not."""
    denied = import_rules.verdict(module.source, module.side, rules.imports)
    if denied is not None:
        return denied
    try:
        limits, lowered = rules.profiles.granted(module.limits)
        if module.returns is not None:
            return Admitted(limits, Contract.of_schema(module.returns), lowered)
    except (BadLimits, BadContract) as problem:
        return Verdict(ok=False, code=problem.code, reason=problem.message[:4000])
    declared = from_source(module.source)
    return Admitted(limits, declared.contract, lowered, declared.note)
