"""What a vehicle allows, by a file that the cloud cannot change."""

from edge_runtime.policy.account import DayAccount, Grant
from edge_runtime.policy.file import parse, read
from edge_runtime.policy.gate import Gate
from edge_runtime.policy.policy import Names, Policy

__all__ = ["DayAccount", "Gate", "Grant", "Names", "Policy", "parse", "read"]
