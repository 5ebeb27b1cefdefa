"""A signed receipt for each result: what was run, on what, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.done import Done
from protocol.messages import OffboardOrder, OnboardOrder, TaskReport
from protocol.result_receipt import CodeRun, WindowRead, of_inputs, signed
from protocol.signing import Signer, fingerprint


@dataclass(frozen=True)
class Attest:
    """Signs for one vehicle or worker; without a signer nothing is, as on one machine."""

    signer: Signer | None = None
    now: Callable[[], float] = time.time

    @property
    def signs(self) -> bool:
        """True if results get a receipt."""
        return self.signer is not None

    def with_receipt(
        self,
        order: OnboardOrder | OffboardOrder,
        done: Done,
        report: TaskReport,
        window: WindowRead | None,
    ) -> TaskReport:
        """The report with its receipt. What ran no code has none: there is nothing to prove."""
        if self.signer is None or done.digest is None:
            return report
        code = CodeRun(
            method=order.method,
            user_id=order.user_id,
            module=order.module,
            digest=done.digest,
            generation=done.generation,
            environment=done.environment,
            image=done.image,
            limits=done.limits,
        )
        receipt = signed(
            self.signer,
            self.now(),
            assignment=order.assignment,
            iteration=order.iteration,
            task=order.id,
            attempt=order.attempt,
            code=code,
            params=fingerprint(order.params),
            previous=fingerprint(order.previous),
            window=window,
            inputs=of_inputs(order.results) if isinstance(order, OffboardOrder) else None,
            outcome=report.outcome.kind,
            value=fingerprint(report.outcome.value),
            seconds=report.seconds,
            cpu_s=report.usage.cpu_s,
            container_starts=report.usage.container_starts,
        )
        return report.model_copy(update={"receipt": receipt})
