"""What an orchestrator measures. What the store knows is read from it when somebody looks."""

from __future__ import annotations

from typing import Final

from protocol.metrics import Counter, Gauge, Histogram, Instrument

MESSAGES: Final = Counter(
    "oodida_orchestrator_messages_total",
    "Messages that came, by channel: presence, reports, requests.",
    ("channel",),
)
REPORTS: Final = Counter(
    "oodida_orchestrator_reports_total",
    "Reports of vehicles and workers that were taken, by role and kind.",
    ("role", "kind"),
)
REQUESTS: Final = Counter(
    "oodida_orchestrator_requests_total", "Requests of analysts that were done, by mode.", ("mode",)
)
REFUSED: Final = Counter(
    "oodida_orchestrator_refused_messages_total",
    "Messages that were refused, by the code of the error.",
    ("code",),
)
DROPPED: Final = Counter(
    "oodida_orchestrator_dropped_messages_total",
    "Messages that were dropped unread, as their sender had sent too many, by channel.",
    ("channel",),
)
CHANGES: Final = Counter(
    "oodida_orchestrator_state_changes_total",
    "Changes of state that were decided, of assignments, tasks and deployments, by the new state.",
    ("kind", "state"),
)
PUBLISHED: Final = Counter(
    "oodida_orchestrator_published_messages_total",
    "Messages of the outbox that were published, by what became of them: accepted, refused by the "
    "broker, put_off without a connection.",
    ("result",),
)
TURN_SECONDS: Final = Histogram(
    "oodida_orchestrator_turn_seconds", "How long a turn took: one transaction over a batch."
)
TURN_MESSAGES: Final = Histogram(
    "oodida_orchestrator_turn_messages",
    "How many messages a turn handled.",
    buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)
TASK_SECONDS: Final = Histogram(
    "oodida_orchestrator_task_seconds",
    "How long vehicles and workers were at a task, as they report it, window included.",
    ("role",),
)
CONNECTED: Final = Gauge(
    "oodida_orchestrator_connected", "1 while there is a connection to the broker."
)
EDGES: Final = Gauge(
    "oodida_orchestrator_edges_online",
    "Vehicles and workers that are online, by the store: the same from every orchestrator.",
    ("role",),
)
OPEN: Final = Gauge(
    "oodida_orchestrator_assignments_open",
    "Assignments that have not ended, by state, by the store: the same from every orchestrator.",
    ("state",),
)
OUTBOX: Final = Gauge(
    "oodida_orchestrator_outbox_messages",
    "Messages that wait to be published, by the store: the same from every orchestrator.",
)
INSTRUMENTS: Final[tuple[Instrument, ...]] = (
    MESSAGES, REPORTS, REQUESTS, REFUSED, DROPPED, CHANGES, PUBLISHED, TURN_SECONDS, TURN_MESSAGES,
    TASK_SECONDS, CONNECTED, EDGES, OPEN, OUTBOX,
)  # fmt: skip
