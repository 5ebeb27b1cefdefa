"""Each parser that reads what somebody else wrote, as a `Target`."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from edge_runtime.admission import Admitted, Rules, admit
from edge_runtime.environments.usage import Usage
from edge_runtime.modules import ModuleStore
from edge_runtime.sandbox.classify import Seen, classify, is_blank, needs_engine, printed_by
from edge_runtime.sandbox.frames import Broken, Demultiplexer, Frames, Printed, Stream, framed
from edge_runtime.signals.recording import Recording
from protocol import messages, topics, values
from protocol.contract import Contract
from protocol.environment import Lock, Locked, normalised
from protocol.errors import BadRequest, OodidaError
from protocol.imports import rules as import_rules
from protocol.limits import Limits, Profiles
from protocol.link import Outgoing, packets, parse_url
from protocol.messages import ModuleMessage
from protocol.module import Module, Side, digest_of
from protocol.values import CBOR, JSON
from tests.fuzz.law import LawBroken, Target

#: The first byte of a case says what its content type is.
TYPES: Final = (JSON, CBOR, "", "text/plain", "application/json; charset=utf-16")
KINDS: Final[dict[str, TypeAdapter[Any]]] = {
    "presence": messages.PRESENCE,
    "order": messages.ORDER,
    "module": messages.MODULE,
    "report": messages.REPORT,
    "receipt": messages.RECEIPT,
    "request": messages.REQUEST,
    "reply": messages.REPLY,
    "event": messages.EVENT,
}
SOURCE: Final = (
    "import math\n\ndef custom_code(window, previous) -> list[float]:\n    return window\n"
)
MODULE: Final = Module(
    user_id="ada", name="m", side=Side.ONBOARD, generation=2, source=SOURCE,
    environment="minimal", digest=digest_of(SOURCE, "minimal"),
)  # fmt: skip


def content_type(data: bytes) -> str:
    """What a case's first byte stands for."""
    return TYPES[data[0] % len(TYPES)] if data else JSON


def typed(payload: bytes) -> bytes:
    """A case of this payload, under the content type that it is of."""
    return (b"\0" if payload[:1] in b'{["tfn-0123456789' else b"\1") + payload


def _message(kind: TypeAdapter[Any], data: bytes) -> None:
    message = messages.decode(kind, data[1:], content_type(data))
    again, how = messages.encode(message)  # what has been read can be stored and sent
    if messages.decode(kind, again, how) != message:
        raise LawBroken("a message is another one when it is written and read again")
    if isinstance(message, ModuleMessage):
        try:
            module = message.module()
        except ValidationError as problem:  # as the vehicle takes it
            raise BadRequest("the module does not fit its digest") from problem
        admitted = admit(module, RULES)
        if isinstance(admitted, Admitted) and admitted.contract is not None:
            admitted.contract.check({"a": [1]})


RULES: Final = Rules.shipped()


def _value(data: bytes) -> None:
    tree = values.check(values.decode(data[1:], content_type(data)))
    written, how = values.encode(tree)
    if values.check(values.decode(written, how)) != tree:
        raise LawBroken("a tree is another one when it is written and read again")
    if values.from_text(values.to_text(tree)) != tree:
        raise LawBroken("a tree is another one when it is written as text and read again")
    value: Any = values.unpack(tree)
    values.unpack(values.pack(value, values.Bounds(2**24, 64, 2**20)))


def _text_value(data: bytes) -> None:
    values.unpack(values.check(values.from_text(data)), values.list_array)


def _packets(data: bytes) -> None:
    """Whatever the packets' bytes come in, the same is read."""
    whole = _split([data])
    step = 1 + len(data) // 7
    if _split([data[i : i + step] for i in range(0, len(data), step)]) != whole:
        raise LawBroken("packets that come in pieces are other packets")


def _split(pieces: list[bytes]) -> list[object]:
    buffer, found = bytearray(), list[object]()
    try:
        for piece in pieces:
            buffer += piece
            for first, packet, body in packets.split(buffer, 65_536):
                if first & 0xF0 == packets.PUBLISH:
                    found.append(packets.read_publish(packet, body))
                elif first & 0xF0 == packets.PUBACK:
                    found.append(packets.read_puback(packet, body))
    except packets.Malformed:
        found.append(packets.Malformed)
    return found


def _guest(data: bytes) -> None:
    """A container's stream, in pieces, up to the outcome of the call."""
    streams, frames, printed = Demultiplexer(), Frames(), Printed(1000)
    frames.expect(65_536)
    step = 1 + len(data) // 5
    for i in range(0, len(data), step):
        for stream, part in streams.feed(data[i : i + step]):
            if stream is Stream.STDERR:
                printed.feed(part)
            else:
                frames.feed(part)
    printed.text()
    _classified(frames.last)


def _classified(report: bytes) -> None:
    seen, limits = Seen(report), Limits()
    outcome = classify(seen, limits)
    printed_by(report), is_blank(seen), needs_engine(seen)
    messages.encode(outcome)


def in_a_file(read: Callable[[Path], object], name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        read(path)


def _recording(path: Path) -> None:
    recording = Recording.open(path)
    for signal in recording.signals:
        recording.samples(signal, 2**40, 3)


def _profiles(path: Path) -> None:
    profiles = Profiles.read(path)
    for name in profiles.profiles:
        profiles.profiles[name].lowered_to(profiles.maximum)


def _modules(data: bytes) -> None:
    """What lies in a vehicle's folder of modules is not believed either."""
    with tempfile.TemporaryDirectory() as folder:
        for ending in (".py", ".json", ".refused"):
            Path(folder, f"ada@m{ending}").write_bytes(SOURCE.encode() if ending == ".py" else data)
        store = ModuleStore(Path(folder), Side.ONBOARD)
        store.put(MODULE)
        asyncio.run(asyncio.wait_for(store.wait("ada", "m", 1), 5))


def _usage(path: Path) -> None:
    usage = Usage(path)
    usage.keep_only({"a"}, 1.0)
    usage.used()


def _schema(data: bytes) -> None:
    tree = values.from_text(data)
    contract = Contract.of_schema(tree)
    tried: list[Any] = [None, 1, 1.5, "a", [1, "a"], {"a": {"b": []}}, {"~f": "nan"}, {"~t": [1]}]
    for value in tried:
        said = contract.check(value)
        if said is not None and len(said) > 400:
            raise LawBroken("what is said of a value is longer than it may be")


def _source(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    if not text or len(text) > 65_536:
        return
    for side in Side:
        import_rules.verdict(text, side, RULES.imports)
    try:
        digest = digest_of(text, "minimal")
    except UnicodeEncodeError:
        return  # no message holds it
    fields = {**MODULE.model_dump(), "source": text, "digest": digest}
    admit(Module.model_validate(fields), RULES)


def as_text(read: Callable[[str], object], data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    read(text)


def _topic(text: str) -> None:
    address = topics.parse(text)
    if address is not None and not all(map(topics.is_name, (address.channel, *address.rest))):
        raise LawBroken("a topic has a level that is no name")


LOCK: Final = Lock(
    base="oodida/sandbox-minimal:1", python="3.13", platform="linux_x86_64",
    packages=(Locked.of("mylib-1.0-py3-none-any.whl", "a" * 64, 10),),
)  # fmt: skip
REPORT: Final = (
    b'{"stopped":null,"exit":0,"signal":null,"seconds":0.1,"cpu_s":0.1,"printed":0,"at":null,'
    b'"left":0,"oom_kills":0,"memory_peak":1}\n'
)
_ANSWER: Final = REPORT + b'{"kind":"value","value":{"~t":[1,{"~f":"nan"}]}}'
_FAULT: Final = REPORT + b'{"kind":"error","fault":{"type":"A","message":"b","lines":[]}}'


def _stream(stream: Stream, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


def _seeds() -> Iterator[tuple[str, bytes]]:
    for name, message in EXAMPLES.items():
        yield name.partition(" ")[0], typed(messages.encode(message)[0])


def _example(of: TypeAdapter[Any], /, **fields: Any) -> Any:
    return of.validate_python(fields)


_TASK: Final[dict[str, Any]] = {
    "id": "t", "attempt": 1, "assignment": "a", "iteration": 1, "user_id": "ada", "method": "mean",
    "timeout_s": 5.0,
}  # fmt: skip
_SPEC: Final[dict[str, Any]] = {
    "vehicles": {"names": ["car-1"]}, "iterations": 2, "quorum": 0.5, "late": "next",
    "onboard": {"method": "mean", "signals": ["A"], "samples": 3, "rate_hz": 1.0},
    "offboard": {"method": "quantiles", "params": {"q": [0.1]}},
    "budget": {"cpu_s": 1.0},
}  # fmt: skip
_ENDED: Final[dict[str, Any]] = {
    "kind": "task", "id": "r", "task": "t", "attempt": 1, "state": "succeeded", "digest": "0" * 64,
    "outcome": {"kind": "value", "value": {"~t": [1.5, "a", {"~f": "nan"}]}, "seconds": 0.1},
    "gaps": {"count": 1, "longest_s": 2.0}, "usage": {"cpu_s": 1.0},
}  # fmt: skip
_DEPLOYED: Final[dict[str, Any]] = {
    "kind": "deployment", "id": "d", "name": "m", "side": "onboard", "state": "shipped",
    "digest": MODULE.digest, "generation": 1, "environment": "minimal",
    "states": {"car-1": {"state": "ready"}},
}  # fmt: skip
EXAMPLES: Final[dict[str, Any]] = {
    "presence": _example(
        messages.PRESENCE, online=True, session=1, attributes={"model": "etios", "n": 1},
        signals={"A": "km/h"}, environments=["minimal"],
    ),
    "order onboard": _example(
        messages.ORDER, kind="onboard", signals=["A"], samples=3, first=0, **_TASK
    ),
    "order offboard": _example(
        messages.ORDER, kind="offboard", results=[1, {"~a": ["<f8", [1], b"12345678"]}], **_TASK
    ),
    "order verify": _example(
        messages.ORDER, kind="verify", id="v", module=MODULE, example=[1], timeout_s=3
    ),
    "order build": _example(
        messages.ORDER, kind="build", id="b", spec={"requirements": ["scipy>=1"]}, timeout_s=9
    ),
    "order lock": _example(
        messages.ORDER, kind="build", id="b", spec={"lock": LOCK.text()}, timeout_s=9
    ),
    "order wheel": _example(messages.ORDER, kind="wheel", sha256="a" * 64, offset=0, data=b"PK"),
    "order cancel": _example(messages.ORDER, kind="cancel", assignment="a", tasks=["t"]),
    "module": ModuleMessage.of(MODULE),
    "report task": _example(messages.REPORT, **_ENDED),
    "report state": _example(messages.REPORT, kind="state", task="t", attempt=1, state="running"),
    "report module": _example(
        messages.REPORT, kind="module", id="r", user_id="ada", name="m", side="onboard",
        generation=1, digest=MODULE.digest, state="ready",
    ),
    "report verify": _example(
        messages.REPORT, kind="verify", id="r", order="v", verdict={"ok": False, "line": 3}
    ),
    "report build": _example(
        messages.REPORT, kind="build", id="r", order="b", state="built", lock=LOCK.text(),
        image=f"host:5000/oodida/environment@sha256:{'a' * 64}", size=3,
    ),
    "receipt": _example(messages.RECEIPT, id="r"),
    "request deploy": _example(
        messages.REQUEST, mode="deploy_onboard", user_id="ada", id="d", name="m",
        custom_code=SOURCE, returns={"type": "array"}, limits={"lower": {"time_s": 1}},
    ),
    "request submit": _example(
        messages.REQUEST, mode="submit", user_id="ada", id="a", assignment=_SPEC
    ),
    "request upload": _example(
        messages.REQUEST, mode="upload", user_id="ada", sha256="a" * 64, size=2, offset=0,
        data=b"PK",
    ),
    "request history": _example(messages.REQUEST, mode="history", user_id="ada", assignment="a"),
    "request cancel": _example(messages.REQUEST, mode="cancel", user_id="ada", assignment="a"),
    "request vehicles": _example(messages.REQUEST, mode="vehicles", user_id="ada"),
    "reply error": _example(messages.REPLY, error={"code": "x", "message": "y", "details": {}}),
    "reply vehicles": _example(
        messages.REPLY, vehicles=[{"name": "car-1", "role": "vehicle", "online": True}],
        deployment=_DEPLOYED,
    ),
    "event deployment": _example(messages.EVENT, **_DEPLOYED),
    "event iteration": _example(
        messages.EVENT, kind="iteration", assignment="a", number=1, value=[1],
        results=[{"vehicle": "car-1", "value": 1, "outcome": "value"}],
        participation={"car-1": {"status": "included"}},
    ),
    "event end": _example(
        messages.EVENT, kind="end", assignment="a", state="failed", iterations=1,
        error={"code": "x", "message": "y"},
    ),
}  # fmt: skip


def _of_kind(kind: str) -> tuple[bytes, ...]:
    return tuple(data for name, data in _seeds() if name == kind)


def _others() -> Iterator[Target]:
    tree = typed(b'{"a":[1,{"~t":[{"~f":"nan"},{"~d":["~t",1]}]}]}')
    array = typed(values.encode({"~a": ["<f8", [2, 1], b"0123456789abcdef"]})[0])
    problem = (values.ValueProblem, OodidaError)
    yield Target("value", _value, (tree, array), problem, head=1)
    yield Target("value as text", _text_value, (tree[1:], b'{"~b":"AAA="}'), problem)
    outgoing = Outgoing("a/b", b"{}", CBOR, expiry_s=3, response_topic="r/s", correlation=b"c")
    packet = packets.publish(7, outgoing)
    yield Target("packets", _packets, (packet, packet + packets.puback(7) + packet))
    answer = _stream(Stream.STDOUT, framed(_ANSWER))
    noise = _stream(Stream.STDERR, b"\x1b[31mhello\n")
    yield Target("sandbox stream", _guest, (noise + answer, answer), (Broken, OodidaError))
    yield Target("sandbox report", _classified, (_ANSWER, _FAULT))
    table = b"\xef\xbb\xbfTime (s),SPEED (km/h),\r\n0,1.5,\n1,nan,x\n"
    recording = partial(in_a_file, _recording, "a.csv")
    yield Target("recording", recording, (table, b"A;B\n1,5;2\n", b'"A\tB"\n"1"\n'))
    toml = b"[default]\ntime_s = 1.0\n[maximum]\ntime_s = 2\n"
    yield Target("profiles", partial(in_a_file, _profiles, "a.toml"), (toml,))
    rules = import_rules.DEFAULT_FILE.read_bytes()
    reading = partial(in_a_file, import_rules.read, "a.toml")
    yield Target("import rules", reading, (rules[:2000], b'[[both]]\ndeny=["os"]\nwhy="x"\n'))
    facts = MODULE.model_dump_json(exclude={"source"}).encode()
    yield Target("module folder", _modules, (facts, b'{"generation":1,"reason":"x"}'))
    yield Target("usage file", partial(in_a_file, _usage, "a.json"), (b'{"a":1.5}',))
    schemas = (
        b'{"type":"object","properties":{"a":{"$ref":"#/$defs/n"}},"$defs":{"n":{"type":"null"}}}',
        b'{"anyOf":[{"type":"array","items":{"minimum":1}},{"pattern":"^a+$"}]}',
    )
    yield Target("result contract", _schema, schemas, problem)
    sources = (
        SOURCE.encode(),
        (
            b"from typing import TypedDict\nclass A(TypedDict):\n    a: 'list[A] | None'\n"
            b"def custom_code(w) -> tuple[A, ...]:\n    import os.path as p\n    return p\n"
        ),
    )
    yield Target("source", _source, sources)
    yield Target("lock", partial(as_text, Lock.from_text), (LOCK.text().encode(),))
    requirements = (b"scipy[a]>=1,<2; python_version>'3'", b"a===1", b"a @ file:///x")
    yield Target("requirement", partial(as_text, normalised), requirements)
    yield Target("topic", partial(as_text, _topic), (topics.modules("a", "b", "c").encode(),))
    urls = (b"mqtt://host:1883", b"mqtt://[::1]:99999", b"mqtts://u:p@h/")
    yield Target("broker address", partial(as_text, parse_url), urls)


MESSAGES: Final = {
    name: Target(f"{name} message", partial(_message, kind), _of_kind(name), head=1)
    for name, kind in KINDS.items()
}
PARSERS: Final = {target.name: target for target in (*MESSAGES.values(), *_others())}
