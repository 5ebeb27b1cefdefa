"""What the cloud remembers: SQLAlchemy tables, queries, migrations."""

from sqlalchemy.orm import Session

from orchestrator.store.database import Database

__all__ = ["Database", "Session"]
