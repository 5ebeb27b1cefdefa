"""Data stays in the vehicle: what leaves it is the value, not the samples."""

from __future__ import annotations

import asyncio

import oodida
from protocol import topics
from protocol.link import Link
from protocol.messages import REPORT, TaskReport, decode, new_id

SAMPLES = 5000


def test_a_report_holds_the_value_and_no_samples(ada: oodida.Fleet) -> None:
    report, size = asyncio.run(_overhear(ada))
    assert report.outcome.value == SAMPLES
    assert size < 1000  # the window has forty times as many bytes


async def _overhear(fleet: oodida.Fleet) -> tuple[TaskReport, int]:
    reports = topics.reports("vehicles", "car-1")
    async with Link(fleet.url, new_id(), subscriptions=[reports]) as link:
        spec = oodida.Assignment(
            vehicles=oodida.Select.ids("car-1"),
            onboard=oodida.Onboard("count", signals="VEHICLE_SPEED", samples=SAMPLES),
            offboard=oodida.Offboard("sum"),
        )
        run = await asyncio.to_thread(fleet.submit, spec)
        message = await link.receive()
        message.acknowledge()
        await asyncio.to_thread(run.result)
        report = decode(REPORT, message.payload, message.content_type)
        assert isinstance(report, TaskReport)
        return report, len(message.payload)
