"""Taking in the modules that arrive: admitted, their environment here, stored; and saying so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Literal

from edge_runtime.admission import Admission
from edge_runtime.environments.port import AnyKeeper
from edge_runtime.modules import ModuleStore
from edge_runtime.policy import Gate
from edge_runtime.reporter import Reporter
from edge_runtime.sandbox import AnySandbox
from edge_runtime.vouched import Vouched
from protocol.errors import BadSignature, OodidaError, PolicyRefused
from protocol.imports import imported
from protocol.limits import Limits
from protocol.messages import ModuleReport, Verdict, new_id
from protocol.module import Module

log = logging.getLogger(__name__)

#: How often a module is tried again that the disk does not take, in seconds.
TRY_AGAIN_S: Final = 5.0


class Installer:
    """Takes in modules. One whose environment is still to be had does not hold up the others."""

    def __init__(
        self,
        modules: ModuleStore,
        sandbox: AnySandbox,
        admission: Admission,
        reporter: Reporter,
        environments: AnyKeeper,
        start: Callable[[str, Coroutine[Any, Any, None]], object],
        vouched: Vouched,
        gate: Gate,
    ) -> None:
        self._modules, self._sandbox, self._admission = modules, sandbox, admission
        self._reporter, self._environments, self._start = reporter, environments, start
        self._vouched, self._gate = vouched, gate
        self._changed: Callable[[], object] = lambda: None
        #: What is here and may not be run any more: user, name and generation.
        self._withdrawn: set[tuple[str, str, int]] = set()
        #: The generations that wait for room on the disk.
        self._later: dict[tuple[str, str], int] = {}

    def on_environment(self, changed: Callable[[], object]) -> None:
        """Call this when there is one environment more."""
        self._changed = changed

    def take(self, module: Module) -> None:
        """A module has arrived."""
        self._start(f"module-{module.name}", self._take(module))

    async def _take(self, module: Module) -> None:
        key = (module.user_id, module.name)
        while True:
            try:
                await self._admit(module)
            except BadSignature as problem:
                # Not kept: whoever made it up could fill the disk, and have tasks refused that
                # wait for the module of that name.
                self._report(module, "refused", problem.message)
            except OodidaError as problem:
                self._refuse(module, problem.message, problem.code)
            except OSError as problem:  # a full disk is no fault of the module
                log.warning("the module %s cannot be written down: %s", module.name, problem)
                if self._later.get(key) != module.generation:
                    self._later[key] = module.generation
                    reason = f"the disk here does not take it ({problem.strerror}); tried again"
                    self._report(module, "pending", reason)
                await asyncio.sleep(TRY_AGAIN_S)
                if self._later.get(key) == module.generation:
                    continue
                return  # another generation has come meanwhile
            except Exception as bug:  # one module must not take the others along
                log.exception("the module %s could not be taken in", module.name)
                self._refuse(module, f"it could not be taken in: {type(bug).__name__}")
            self._later.pop(key, None)
            return

    async def _admit(self, module: Module) -> None:
        self._vouched.check_arrival(module, self._modules.get(module.user_id, module.name))
        # In a thread: a hostile source of the largest size takes long to look through.
        admitted = await asyncio.to_thread(self._admission.admit, module)
        if isinstance(admitted, Verdict):
            self._refuse(module, f"{admitted.place}{admitted.reason}")
            return
        self._gate.module(module, admitted.limits)
        if self._sandbox.has(module.environment):
            self._keep(module, admitted.limits, admitted.lowered)
        elif module.image is None:
            self._refuse(module, self._sandbox.why_not(module.environment))
        else:
            await self.prepare(module, lambda told: self._report(module, "pending", told))
            self._keep(module, admitted.limits, admitted.lowered)

    async def prepare(self, module: Module, tell: Callable[[str], None] = lambda _: None) -> None:
        """Make a module's environment available. Raises EnvironmentRefused if it cannot be."""
        if module.image is None:
            return
        if self._sandbox.has(module.environment):
            self._environments.used(module.environment)
            return
        image = await self._environments.ensure(module.environment, module.image, tell)
        self._sandbox.add(module.environment, image)
        self._changed()

    def _keep(self, module: Module, limits: Limits, lowered: tuple[str, ...]) -> None:
        self._gate.module(module, limits)  # again: its environment may have taken long
        here = self._modules.get(module.user_id, module.name)
        if self._modules.put(module, again=here is not None and not self._vouched.holds(here)):
            self._sandbox.expect(module.environment, limits, imported(module.source))
            self._report(module, "ready", "; ".join(lowered))
            return
        number = self._modules.newest(module.user_id, module.name)
        self._report(module, "refused", f"generation {number} is here, which is newer")

    async def judge_again(self) -> None:
        """Another policy is in force: say of each module that is here whether it may still run."""
        for module in self._modules.all():
            admitted = await asyncio.to_thread(self._admission.admit, module)
            if isinstance(admitted, Verdict):
                continue  # it was said when it came
            which = (module.user_id, module.name, module.generation)
            try:
                self._gate.module(module, admitted.limits)
            except PolicyRefused as refusal:
                self._withdrawn.add(which)
                self._report(module, "refused", refusal.message)
            else:
                if which in self._withdrawn:
                    self._withdrawn.discard(which)
                    self._report(module, "ready", "; ".join(admitted.lowered))

    def _refuse(self, module: Module, reason: str, code: str = "") -> None:
        self._modules.refuse(module, reason, code)
        self._report(module, "refused", reason)

    def _report(
        self, module: Module, state: Literal["ready", "refused", "pending"], reason: str
    ) -> None:
        report = ModuleReport(
            id=new_id(),
            user_id=module.user_id,
            name=module.name,
            side=module.side,
            generation=module.generation,
            digest=module.digest,
            state=state,
            reason=reason[:4000],
        )
        self._start("report", self._reporter.report(report.id, report))
