"""What a source imports, and what it may; read from its text, never run."""

from protocol.imports.libraries import imported

__all__ = ["imported"]
