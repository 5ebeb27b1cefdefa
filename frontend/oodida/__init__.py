"""OODIDA: ask questions of a fleet of vehicles, with your own code, replaced while it runs.

>>> import oodida
>>> with oodida.local(vehicles={"car-1": None, "car-2": None}) as fleet:
...     run = fleet.submit(oodida.Assignment(
...         onboard=oodida.Onboard("mean", signals="VEHICLE_SPEED", samples=50),
...         offboard=oodida.Offboard("mean"),
...     ))
...     print(run.result())
"""

from oodida.connecting import connect
from oodida.deployment import Deployment
from oodida.environment import Environment
from oodida.fleet import Fleet
from oodida.local import local
from oodida.participation import Standing
from oodida.run import Iteration, Result, Run
from protocol.account import Budget, Gaps, Usage
from protocol.assignment import Assignment, Offboard, Onboard, Select
from protocol.errors import (
    AssignmentCancelled,
    AssignmentFailed,
    AssignmentHalted,
    BadLimits,
    BadProof,
    BadRecording,
    BadRequest,
    CloudAway,
    EnvironmentRefused,
    LinkError,
    ModuleRefused,
    NotHalted,
    NoWorker,
    OodidaError,
    RequestTimeout,
    SetupError,
    ValueRemoved,
)
from protocol.messages import Change, EnvironmentInfo, VehicleInfo
from protocol.participation import Participation
from protocol.proof import Proof
from protocol.version import VERSION

__version__ = VERSION

__all__ = [
    "Assignment",
    "AssignmentCancelled",
    "AssignmentFailed",
    "AssignmentHalted",
    "BadLimits",
    "BadProof",
    "BadRecording",
    "BadRequest",
    "Budget",
    "Change",
    "CloudAway",
    "Deployment",
    "Environment",
    "EnvironmentInfo",
    "EnvironmentRefused",
    "Fleet",
    "Gaps",
    "Iteration",
    "LinkError",
    "ModuleRefused",
    "NoWorker",
    "NotHalted",
    "Offboard",
    "Onboard",
    "OodidaError",
    "Participation",
    "Proof",
    "RequestTimeout",
    "Result",
    "Run",
    "Select",
    "SetupError",
    "Standing",
    "Usage",
    "ValueRemoved",
    "VehicleInfo",
    "__version__",
    "connect",
    "local",
]
