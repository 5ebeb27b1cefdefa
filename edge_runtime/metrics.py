"""What an edge runtime measures."""

from __future__ import annotations

from typing import Final

from protocol.metrics import Counter, Gauge, Histogram, Instrument

ORDERS: Final = Counter(
    "oodida_edge_orders_total", "Orders that came, by kind, doubled ones too.", ("kind",)
)
REFUSED: Final = Counter(
    "oodida_edge_refused_messages_total",
    "Messages that were dropped, by why: bad_request, wrong_sender, internal: a failure of ours.",
    ("code",),
)
POLICY: Final = Counter(
    "oodida_edge_policy_refusals_total", "What the vehicle's policy refused, by rule.", ("code",)
)
TASKS: Final = Counter(
    "oodida_edge_tasks_ended_total", "Tasks that have ended, by state.", ("state",)
)
TASK_SECONDS: Final = Histogram(
    "oodida_edge_task_seconds", "How long a task took, its window included."
)
CALLS: Final = Counter(
    "oodida_edge_sandbox_calls_total",
    "Calls of custom modules in a container, by the kind of their outcome.",
    ("outcome",),
)
CALL_SECONDS: Final = Histogram(
    "oodida_edge_sandbox_call_seconds", "How long such a call took, its container included."
)
CONNECTED: Final = Gauge("oodida_edge_connected", "1 while there is a connection to the broker.")
CONNECTIONS: Final = Counter(
    "oodida_edge_connections_total", "Connections to the broker that were made."
)
UNSENT: Final = Gauge(
    "oodida_edge_reports_unsent", "Reports that the cloud has not acknowledged yet."
)
DROPPED: Final = Counter(
    "oodida_edge_reports_dropped_total",
    "Reports that were given up without a receipt: too many, or too old.",
)
ASIDE: Final = Counter(
    "oodida_edge_journals_put_aside_total", "Journals that could not be read, and were replaced."
)
UNWRITTEN: Final = Counter(
    "oodida_edge_journal_failures_total", "What the journal could not take: the disk was full."
)
RUNNING: Final = Gauge("oodida_edge_tasks_running", "Tasks that are being worked on.")
STATE_BYTES: Final = Gauge(
    "oodida_edge_state_bytes",
    "Bytes in the state folder, by what: journal, other (modules and what else is kept).",
    ("what",),
)
POOL_IDLE: Final = Gauge(
    "oodida_edge_pool_idle_containers", "Containers that were started ahead and wait for a call."
)
POOL_WANTED: Final = Gauge(
    "oodida_edge_pool_wanted_containers", "How many of them there should be."
)
INSTRUMENTS: Final[tuple[Instrument, ...]] = (
    ORDERS, REFUSED, POLICY, TASKS, TASK_SECONDS, CALLS, CALL_SECONDS, CONNECTED, CONNECTIONS,
    UNSENT, DROPPED, ASIDE, UNWRITTEN, RUNNING, STATE_BYTES, POOL_IDLE, POOL_WANTED,
)  # fmt: skip
