"""What the cloud remembers: SQLAlchemy tables, queries, migrations."""

from orchestrator.store.database import Database

__all__ = ["Database"]
