"""What every service measures of itself, and the thread that serves /metrics off the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from socketserver import ThreadingMixIn
from typing import Final, NoReturn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from roost.service import logs
from roost.service.addresses import check_free, family_of
from roost.service.tallies import CounterSeries, CounterTally, HistogramSeries, HistogramTally

LAG_INTERVAL_S: Final = 0.25
SCRAPE_TIMEOUT_S: Final = 10.0  # Prometheus gives up after 10 s by default; an idle connection must not keep a thread
_LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_RPC_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class GrpcMetrics:
    """Calls handled by a gRPC server, by service, method and code. Methods are those registered, so the labels are bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._handled = CounterTally("roost_grpc_handled", "Calls that ended, by code.", ["service", "method", "code"], registry)
        self._handling = HistogramTally(
            "roost_grpc_handling_seconds",
            "Time from the handler's start to its end; of a stream, its whole life.",
            registry,
            bounds=_RPC_BUCKETS,
            labels=["service", "method"],
        )

    def method(self, service: str, method: str) -> MethodMetrics:
        """What counts one method's calls."""
        return MethodMetrics(self._handled, self._handling.series(service, method), service, method)


class MethodMetrics:
    """One method's counts. State: its series by code."""

    __slots__ = ("_by_code", "_handled", "_handling", "_method", "_service")

    def __init__(self, handled: CounterTally, handling: HistogramSeries, service: str, method: str) -> None:
        self._handled = handled
        self._handling = handling
        self._service = service
        self._method = method
        self._by_code: dict[str, CounterSeries] = {}

    def ended(self, code: str, seconds: float) -> None:
        """One call ended with the status of that name."""
        series = self._by_code.get(code)
        if series is None:
            series = self._by_code[code] = self._handled.series(self._service, self._method, code)
        series.count()
        self._handling.observe(seconds)


class ServiceMetrics:
    """The metrics that all services share; `service` is "coordinator" or "worker". One registry, made by the caller, for each process."""

    def __init__(self, service: str, registry: CollectorRegistry) -> None:
        # A `_created` series beside each counter doubles what is scraped and tells nobody anything. (Published without types.)
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry
        self.grpc = GrpcMetrics(registry)
        Gauge("roost_build_info", "Always 1; the labels say what runs.", ["service", "version"], registry=registry).labels(
            service, _version()
        ).set(1)
        self._lag = Histogram(
            "roost_event_loop_lag_seconds", "How late the event loop woke up a timer.", registry=registry, buckets=_LAG_BUCKETS
        )
        registry.register(_LogErrors())
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    async def measure_event_loop_lag(self, interval_s: float = LAG_INTERVAL_S) -> NoReturn:
        """Samples the lag until it is cancelled. Start it in the service's TaskGroup."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + interval_s
            await asyncio.sleep(interval_s)
            self._lag.observe(max(0.0, loop.time() - due))


class _LogErrors(Collector):
    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily("roost_log_write_errors", "Log lines that their file or pipe did not take.", value=logs.write_errors())


def _version() -> str:
    try:
        return version("roost-serving")
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "unknown"


class MetricsServer:
    """A thread that answers /metrics at `port`."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        """Stops listening. Idempotent."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Iterator[MetricsServer]:
    """Serves `registry` for as long as the block lasts. Port 0 takes a free one. Raises PortTaken."""
    address = check_free(host, port, flag="--metrics-port")

    class Server(ThreadingMixIn, WSGIServer):
        address_family = family_of(address)
        daemon_threads = True
        block_on_close = False

    server = MetricsServer(make_server(address, port, make_wsgi_app(registry), Server, _QuietHandler))
    try:
        yield server
    finally:
        server.close()


class _QuietHandler(WSGIRequestHandler):
    timeout = SCRAPE_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """A scrape is no event."""

    def address_string(self) -> str:
        return str(self.client_address[0])  # the base class may ask a name server
