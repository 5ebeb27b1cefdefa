"""What a program of ours counts while it works; the only file that imports prometheus_client.

An instrument is declared once and written to from anywhere, as a logger is. Until somebody asks for
metrics it does nothing, and its library, which takes 14 MB, is not loaded.

Labels come from closed sets: never the name of a vehicle, an analyst or an assignment, of which
there is no end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final

log = logging.getLogger(__name__)

#: Seconds, from a call of a warm container to a window of minutes.
SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800,
)  # fmt: skip

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
#: What a gauge is at one moment: a number, or one for each set of label values.
Reading = float | Mapping[tuple[str, ...], float]


class Instrument:
    """Something that is measured, under its name in Prometheus."""

    kind: ClassVar[str]

    def __init__(self, name: str, text: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.text, self.labels = name, text, labels
        self._bound: Any = None

    def _of(self, labels: tuple[str, ...]) -> Any:
        return self._bound.labels(*labels) if labels else self._bound


class Counter(Instrument):
    """Counts up from the start of the process. Its name ends in ``_total``."""

    kind = "counter"

    def add(self, *labels: str, by: float = 1) -> None:
        """It has happened once more, or `by` times."""
        if self._bound is not None:
            self._of(labels).inc(by)


class Histogram(Instrument):
    """How often which size came, in buckets. Its name ends in the unit."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...] = (),
        buckets: tuple[float, ...] = SECONDS,
    ) -> None:
        super().__init__(name, text, labels)
        self.buckets = buckets

    def observe(self, size: float, *labels: str) -> None:
        """One of this size."""
        if self._bound is not None:
            self._of(labels).observe(size)


class Gauge(Instrument):
    """What is at this moment: asked for when somebody looks, and costs nothing until then."""

    kind = "gauge"

    def __init__(self, name: str, text: str, labels: tuple[str, ...] = ()) -> None:
        super().__init__(name, text, labels)
        self.sources: list[Callable[[], Reading]] = []


@contextmanager
def reading(sources: Mapping[Gauge, Callable[[], Reading]]) -> Iterator[None]:
    """While this lasts, gauges are read from these; of several sources of one, the sum."""
    for gauge, source in sources.items():
        gauge.sources.append(source)
    try:
        yield
    finally:
        for gauge, source in sources.items():
            gauge.sources.remove(source)


def gather(instruments: Iterable[Instrument]) -> Wsgi:
    """Let these count from now on, and return the WSGI application that tells them.

    The figures of the process itself (memory, processor, descriptors) are among them.
    """
    from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, make_wsgi_app
    from prometheus_client import Counter as PrometheusCounter
    from prometheus_client import Histogram as PrometheusHistogram
    from prometheus_client.process_collector import ProcessCollector

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    gauges = []
    for instrument in instruments:
        name, text, labels = instrument.name, instrument.text, instrument.labels
        match instrument:
            case Histogram(buckets=buckets):
                bound: Any = PrometheusHistogram(
                    name, text, labels, buckets=buckets, registry=registry
                )
            case Gauge():
                gauges.append(instrument)
                continue
            case _:
                bound = PrometheusCounter(name, text, labels, registry=registry)
        instrument._bound = bound  # noqa: SLF001 - from now on it counts
    registry.register(_Gauges(gauges))
    tell: Wsgi = make_wsgi_app(registry)
    return tell


class _Gauges:
    """What the registry asks for the gauges, each time that somebody looks."""

    def __init__(self, gauges: list[Gauge]) -> None:
        self._gauges = gauges

    def describe(self) -> list[Any]:
        """Nothing: a registry that is told here would ask the sources before they are there."""
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily

        for gauge in self._gauges:
            family = GaugeMetricFamily(gauge.name, gauge.text, labels=gauge.labels)
            for labels, value in _sum(gauge).items():
                family.add_metric(labels, value)
            yield family


def _sum(gauge: Gauge) -> dict[tuple[str, ...], float]:
    total: dict[tuple[str, ...], float] = {}
    for source in list(gauge.sources):
        try:
            found = source()
        except Exception:  # what cannot be read now is left out; the others are told
            log.exception("%s cannot be read", gauge.name)
            continue
        for labels, value in found.items() if isinstance(found, Mapping) else [((), found)]:
            total[labels] = total.get(labels, 0.0) + value
    return total
