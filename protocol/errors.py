"""One small tree of errors, each with a stable code for programs and a sentence for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from protocol.participation import Participation


class OodidaError(Exception):
    """Something that was asked for could not be done.

    The message defaults to the class docstring, so that each error is explained once.
    ``details`` holds what a program may want beside the code: plain JSON values only.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None, **details: Any) -> None:
        super().__init__(message or (type(self).__doc__ or self.code).strip().splitlines()[0])
        self.details: dict[str, Any] = details

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self.args[0])

    @property
    def participation(self) -> dict[str, Participation]:
        """Why each vehicle is in or out, where the error is about an iteration; else empty."""
        from protocol.participation import Participation  # errors alone need no pydantic

        told = self.details.get("participation", {})
        return {vehicle: Participation.model_validate(p) for vehicle, p in told.items()}


class BadRequest(OodidaError):
    """The request is not of the form that the protocol prescribes."""

    code = "bad_request"


class UnknownMethod(BadRequest):
    """No built-in method has this name; `oodida methods` lists them."""

    code = "unknown_method"


class BadParameter(BadRequest):
    """A method's parameter is missing, of the wrong type or out of its range."""

    code = "bad_parameter"


class UnknownSignal(BadRequest):
    """No selected vehicle has this signal; `oodida vehicles` lists what they have."""

    code = "unknown_signal"


class UnknownVehicle(BadRequest):
    """None of the selected vehicles is known; `oodida vehicles` lists those that are."""

    code = "unknown_vehicle"


class UnknownModule(BadRequest):
    """No module of this name has been deployed by this user to this side; deploy it first."""

    code = "unknown_module"


class UnknownEnvironment(BadRequest):
    """No sandbox image of this name exists; choose `minimal` or `science`."""

    code = "unknown_environment"


class UnknownAssignment(BadRequest):
    """This user has no assignment with this id."""

    code = "unknown_assignment"


class NameTaken(BadRequest):
    """This id is already used by another request."""

    code = "id_taken"


class BadLimits(BadRequest):
    """The limits asked for cannot be had; `oodida profiles` lists what can."""

    code = "bad_limits"


class BadContract(BadRequest):
    """The schema of a module's result is not one that can be checked; see the result contract."""

    code = "bad_contract"


class SourceTooLarge(BadRequest):
    """The module's source is larger than what may be deployed; shorten it."""

    code = "source_too_large"


class Forbidden(OodidaError):
    """Who asks may not do this; an administrator can change that in the cloud's authority file."""

    code = "forbidden"


class OverQuota(Forbidden):
    """The tasks of custom code that this user may have in a day are used up."""

    code = "over_quota"


class BadValue(OodidaError):
    """The value is not of a kind that may travel."""

    code = "bad_value"


class ValueTooLarge(BadValue):
    """The value is larger, or nested deeper, than what may travel; return less."""

    code = "value_too_large"


class BadRecording(OodidaError):
    """The recording cannot be read as a table of signals."""

    code = "bad_recording"


class ModuleRefused(OodidaError):
    """The module was refused; nothing has changed anywhere."""

    code = "module_refused"


class BadSignature(OodidaError):
    """A signature does not fit: what is signed was changed, or somebody else has signed it."""

    code = "bad_signature"


class NotSigned(BadSignature):
    """It has to be signed here, and is not: connect with an identity."""

    code = "not_signed"


class NotAwaiting(BadRequest):
    """The deployment does not wait for approval, or its code is not the one that was looked at."""

    code = "not_awaiting"


class BadProof(OodidaError):
    """The proof does not hold: something in it was changed, or is missing."""

    code = "bad_proof"


class NoProof(OodidaError):
    """There are no receipts: nobody signs where there are no certificates (`oodida up --trust`)."""

    code = "no_proof"


class PolicyRefused(OodidaError):
    """The vehicle's policy does not allow this; only who keeps the vehicle can change that."""

    code = "policy_refused"


class PolicyAnalyst(PolicyRefused):
    """The vehicle's policy does not let this analyst compute on it."""

    code = "policy_analyst"


class PolicyCustomCode(PolicyRefused):
    """The vehicle's policy allows no custom code, only built-in methods."""

    code = "policy_custom_code"


class PolicySignal(PolicyRefused):
    """The vehicle's policy does not let this signal be computed over."""

    code = "policy_signal"


class PolicyProfile(PolicyRefused):
    """The module asks for more than the highest profile that the vehicle's policy allows."""

    code = "policy_profile"


class PolicyEnvironment(PolicyRefused):
    """The vehicle's policy does not allow the module's environment."""

    code = "policy_environment"


class PolicyBudget(PolicyRefused):
    """What the vehicle's policy lets be used in a day is used up; the day ends at 00:00 UTC."""

    code = "policy_budget"


class PolicyQuietHours(PolicyRefused):
    """The vehicle's policy lets nothing be begun at this time of the day."""

    code = "policy_quiet_hours"


class BadPolicy(OodidaError):
    """The file with the vehicle's policy cannot be read, or says what it cannot mean."""

    code = "bad_policy"


class EnvironmentRefused(OodidaError):
    """The libraries asked for cannot be had; `reason_code` in the details says why."""

    code = "environment_refused"


class NoWorker(OodidaError):
    """No off-board worker is connected, so nothing can be verified or combined; start one."""

    code = "no_worker"


class DeploymentTimeout(OodidaError):
    """The cloud did not finish the deployment in time; it may still go through."""

    code = "deployment_timeout"


class AssignmentFailed(OodidaError):
    """The assignment ended without a result."""

    code = "assignment_failed"


class AssignmentCancelled(AssignmentFailed):
    """The assignment was cancelled before it ended."""

    code = "cancelled"


class AssignmentHalted(AssignmentFailed):
    """The module fails on too many vehicles: deploy a repair, then `run.resume()` goes on."""

    code = "halted"


class TooMany(OodidaError):
    """More is asked for than one sender may have; the sentence says of what."""

    code = "too_many"


class TooManyRequests(TooMany):
    """More requests came at once than one analyst may send; `retry_after_s` says when to go on."""

    code = "too_many_requests"


class TooManyAssignments(TooMany):
    """Too many assignments of this analyst have not ended; wait for one, or cancel one."""

    code = "too_many_assignments"


class QuotaExceeded(TooMany):
    """This analyst has as many bytes in the cloud as one may have."""

    code = "quota_exceeded"


class WrongSender(BadRequest):
    """An id in the message is not the one of its topic: nobody speaks in another's name."""

    code = "wrong_sender"


class BadAuditLog(OodidaError):
    """The audit log is not as it was written; `oodida audit verify` says where."""

    code = "bad_audit_log"


class NotHalted(BadRequest):
    """Only an assignment that is halted can be resumed."""

    code = "not_halted"


class ValueRemoved(OodidaError):
    """The value is older than what this cloud keeps; who took part can still be asked."""

    code = "value_removed"


class LinkError(OodidaError):
    """The broker cannot be reached or refused what was sent."""

    code = "link_error"


class NotConnected(LinkError):
    """There is no connection to the broker now; what was to be sent has not been sent."""

    code = "not_connected"


class BrokerBusy(LinkError):
    """The broker takes no message of this kind now; it may when it is sent again later."""

    code = "broker_busy"


class RequestTimeout(LinkError):
    """No orchestrator answered in time; is one running on this broker?"""

    code = "request_timeout"


class NameInUse(LinkError):
    """Another program is connected under the same name; two would fight for it."""

    code = "name_in_use"


class IdentityError(LinkError):
    """The broker and this program do not know each other by their certificates."""

    code = "identity_error"


class BadIdentity(IdentityError):
    """The folder of an identity does not hold what belongs in it; `oodida enroll` makes one."""

    code = "bad_identity"


class LooseKey(IdentityError):
    """Others on this machine can read the key: `chmod 600 key.pem`, or enrol again."""

    code = "loose_key"


class CertificateExpired(IdentityError):
    """A certificate is not valid now; `oodida enroll` makes a new one."""

    code = "certificate_expired"


class UnknownAuthority(IdentityError):
    """The broker's certificate is of another authority than the one in ca.pem."""

    code = "unknown_authority"


class WrongHost(IdentityError):
    """The broker's certificate is for another host than the one in the URL."""

    code = "wrong_host"


class WrongName(IdentityError):
    """The certificate is of another name than the one that was given."""

    code = "wrong_name"


class NotAuthorised(IdentityError):
    """The broker does not let this certificate in; it may have been revoked."""

    code = "not_authorised"


class NotEncrypted(IdentityError):
    """Beyond this machine nothing is said without TLS: write mqtts://, and name an identity."""

    code = "not_encrypted"


class CloudAway(LinkError):
    """Nothing was heard of the cloud for too long; what runs there goes on."""

    code = "cloud_away"


class SetupError(OodidaError):
    """Something that this machine needs first is missing."""

    code = "setup_error"


class BadAuthorityFile(SetupError):
    """The file that says who may do what cannot be read."""

    code = "bad_authority_file"


class NoAuthority(SetupError):
    """This folder holds no certificate authority; `oodida pki init` makes one."""

    code = "no_authority"


class AuthorityExists(BadRequest):
    """This folder holds a certificate authority already; it is left as it is."""

    code = "authority_exists"


class BadToken(BadRequest):
    """The token is none, was used before, or is too old; `oodida enroll --token` makes one."""

    code = "bad_token"


class NotEnrolled(BadRequest):
    """No valid certificate of this name is known here; `oodida pki list` tells which are."""

    code = "not_enrolled"


class IllegalTransition(OodidaError):
    """A life cycle does not allow this change of state."""

    code = "illegal_transition"


def _tree(root: type[OodidaError]) -> dict[str, type[OodidaError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_tree(child))
    return found


#: The codes of what a vehicle's policy refuses, one a rule.
POLICY_CODES: Final = frozenset(_tree(PolicyRefused))


def from_code(code: str, message: str, details: dict[str, Any] | None = None) -> OodidaError:
    """Make the error that a peer reported again, on this side of the wire.

    An unknown code, from a newer peer, gives the root error and keeps the code.
    """
    kind = _tree(OodidaError).get(code)
    if kind is None:
        error = OodidaError(message, **(details or {}))
        error.__dict__["code"] = code
        return error
    return kind(message, **(details or {}))
