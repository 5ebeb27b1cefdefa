"""What a module's result has to be: declared by an annotation or a schema, checked there."""

from protocol.contract.annotation import Declared, from_source
from protocol.contract.contract import Contract

__all__ = ["Contract", "Declared", "from_source"]
