"""What bare paho clients need for the same exchange: an order to each of many, a report from each.

    python bench/_bare.py clients URL PREFIX NUMBER     # all behind one selector, in one process
    python bench/_bare.py cloud URL PREFIX NUMBER       # sends the orders, receives the reports

MQTT 5, QoS 1, acknowledged by paho, nothing parsed, nothing stored. Payloads are as large as ours.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from protocol.link import parse_url

ORDER, REPORT = b"o" * 400, b"r" * 300
#: How many connect at a time.
AT_ONCE = 100


def client(name: str) -> Client:
    """A client as paho makes it; 1000 messages may be on their way, as between our parts."""
    made = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
    made.max_inflight_messages_set(1000)
    return made


def clients(url: str, prefix: str, number: int) -> None:
    """Answer every order with a report, until standard input ends."""
    host, port, _ = parse_url(url)
    selector = selectors.DefaultSelector()
    there = 0

    def subscribed(*_: Any) -> None:
        nonlocal there
        there += 1

    def answer(one: Client, topic: str, _message: Any) -> None:
        one.publish(topic, REPORT, qos=1)

    def serve(patience_s: float) -> bool:
        for key, _events in selector.select(patience_s):
            one = key.data
            if one is None:
                return False
            one.loop_read()
            if one.want_write():
                one.loop_write()
        return True

    selector.register(sys.stdin, selectors.EVENT_READ, None)
    for i in range(number):
        one = client(f"{prefix}-{i}")
        one.user_data_set(f"{prefix}/{i}/reports")
        one.on_message = answer
        one.on_subscribe = subscribed
        one.connect(host, port, keepalive=300)
        socket: Any = one.socket()
        selector.register(socket, selectors.EVENT_READ, one)
        one.on_connect = lambda c, topic, *_: c.subscribe(topic.replace("reports", "orders"), 1)
        while there < i - AT_ONCE:
            serve(1.0)
    while there < number:
        serve(1.0)
    print("ready", flush=True)
    while serve(1.0):
        pass


def cloud(url: str, prefix: str, number: int) -> None:
    """Send an order to each and wait for all reports; print the seconds that it took."""
    host, port, _ = parse_url(url)
    came = 0

    def report(*_: Any) -> None:
        nonlocal came
        came += 1

    one = client(f"{prefix}-cloud")
    ready = []
    one.on_message = report
    one.on_subscribe = lambda *_: ready.append(True)
    one.on_connect = lambda c, *_: c.subscribe(f"{prefix}/+/reports", 1)
    one.connect(host, port)
    while not ready:
        one.loop(1.0)
    began = time.perf_counter()
    for i in range(number):
        one.publish(f"{prefix}/{i}/orders", ORDER, qos=1)
    while came < number:
        one.loop(1.0)
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


@contextlib.contextmanager
def _running(*words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(Path(__file__)), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def exchange(url: str, number: int, runs: int) -> list[float]:
    """The seconds that each of some exchanges took, with the same clients."""
    prefix = f"bare{time.monotonic_ns()}"
    with _running("clients", url, prefix, str(number)) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("the bare clients have ended")
        found = []
        for _ in range(runs):
            with _running("cloud", url, prefix, str(number)) as sender:
                told, _ = sender.communicate()
                found.append(float(json.loads(told)["seconds"]))
        return found


if __name__ == "__main__":
    {"clients": clients, "cloud": cloud}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
