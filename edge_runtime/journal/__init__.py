"""What must survive a power cut: accepted orders, windows that fill, reports without a receipt."""

from edge_runtime.journal.edge import SEEN_DAYS, EdgeJournal
from edge_runtime.journal.file import Journal
from edge_runtime.journal.stored import JournalFull, StoredOrder, StoredReport, StoredSamples

__all__ = [
    "SEEN_DAYS",
    "EdgeJournal",
    "Journal",
    "JournalFull",
    "StoredOrder",
    "StoredReport",
    "StoredSamples",
]
