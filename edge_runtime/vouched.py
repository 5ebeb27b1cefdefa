"""What may be stored and run here: what its analyst, and of a module the cloud, vouches for."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge_runtime import metrics
from protocol import endorsement, mandate
from protocol.endorsement import OFFBOARD, TRIAL
from protocol.errors import BadSignature
from protocol.messages import OffboardOrder, OnboardOrder
from protocol.module import Module
from protocol.signing import Trust

log = logging.getLogger(__name__)


class Vouched:
    """Checks modules and orders for one receiver: a vehicle by its name, or `OFFBOARD`.

    Without an authority there is nobody who could vouch, and nothing is checked: that is a system
    on one machine, which everybody on it may use.
    """

    def __init__(self, trust: Trust | None = None, to: str = OFFBOARD) -> None:
        self._trust, self._to = trust, to

    def check(self, module: Module) -> None:
        """Raises BadSignature if a module may not be run."""
        if self._trust is not None:
            with _told(module):
                endorsement.check(self._trust, module, self._to)

    def holds(self, module: Module) -> bool:
        """True if a module may be run, as far as signatures say."""
        try:
            if self._trust is not None:
                endorsement.check(self._trust, module, self._to)
        except BadSignature:
            return False
        return True

    def check_arrival(
        self, module: Module, newest: Module | None = None, now: float | None = None
    ) -> None:
        """Raises BadSignature if a module may not be stored; `newest` is what is here.

        ``now`` is in seconds since 1970, by default the machine's.
        """
        if self._trust is None:
            return
        if module == newest:  # the broker brings it at each connection
            self.check(module)
            return
        with _told(module):
            endorsement.check(self._trust, module, self._to, time.time() if now is None else now)
            self._compare(module, newest)
            if not _is_of_same_request(module, newest):
                endorsement.check_analyst_not_revoked(self._trust, module)

    @staticmethod
    def _compare(module: Module, newest: Module | None) -> None:
        if newest is None or newest.generation != module.generation:
            return  # an older one is never taken, signed or not
        if newest.digest != module.digest:
            raise BadSignature(
                f"generation {module.generation} of {module.name} is here, and is another module"
            )

    def check_order(self, order: OnboardOrder | OffboardOrder) -> None:
        """Raises BadSignature if no analyst has asked for what is ordered."""
        if self._trust is None:
            return
        try:
            mandate.check_order(self._trust, order)
        except BadSignature as problem:
            log.warning("the task %s of %s is refused: %s", order.id, order.user_id, problem)
            metrics.REFUSED.add(problem.code)
            raise

    def check_trial(self, module: Module) -> None:
        """Raises BadSignature if a module may not even be tried."""
        if self._trust is not None:
            with _told(module):
                endorsement.check(self._trust, module, TRIAL)
                endorsement.check_cloud_not_revoked(self._trust, module)
                endorsement.check_analyst_not_revoked(self._trust, module)


def _is_of_same_request(module: Module, newest: Module | None) -> bool:
    """True if what arrives is here already, and only the cloud vouches for it anew."""
    here = None if newest is None else newest.endorsement
    both = module.endorsement
    return here is not None and both is not None and here.analyst == both.analyst


@contextmanager
def _told(module: Module) -> Iterator[None]:
    """Whoever looks after this machine hears of it: somebody tampers, or a clock is wrong."""
    try:
        yield
    except BadSignature as problem:
        log.warning("the module %s of %s is refused: %s", module.name, module.user_id, problem)
        metrics.REFUSED.add(problem.code)
        raise
