"""The limit on open files, which thousands of connections come up against."""

from __future__ import annotations

import resource

from protocol.errors import SetupError


def allow(wanted: int, vehicles: int) -> None:
    """Let this process open so many files. Raises SetupError where the machine does not let it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SetupError(
            f"{vehicles} vehicles in one process take {wanted} open files, and the limit here is "
            f"{hard}: give --processes a larger number, or raise the limit (ulimit -Hn {wanted})"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
