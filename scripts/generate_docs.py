"""Writes what the documents say of settings, refusals, metrics and the way of a generation from the code that decides it.

Each generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`. With `--check`, exits 1 if a part is not what it would be.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from roost.coordinator.metrics import CoordinatorMetrics
from roost.coordinator.settings import CoordinatorSettings
from roost.flow.table import diagram, rows_table
from roost.gossip.metrics import GossipMetrics
from roost.gossip.settings import GossipSettings
from roost.service.errors import status_table
from roost.service.metrics import ServiceMetrics
from roost.service.settings import settings_table
from roost.v1 import coordinator_pb2, gossip_pb2, scheduler_pb2, worker_pb2
from roost.worker.metrics import WorkerMetrics
from roost.worker.settings import WorkerSettings

DOCS = Path(__file__).parent.parent / "docs"
PROTO = Path(__file__).parent.parent / "proto"
PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def metrics_table(registry: CollectorRegistry) -> str:
    """Markdown: name, type, labels and meaning of each of our metrics that `registry` would expose."""
    rows = ["| Metric | Type | Labels | Meaning |", "| --- | --- | --- | --- |"]
    labels = {each._name: each._labelnames for each in registry._names_to_collectors.values() if isinstance(each, MetricWrapperBase)}  # noqa: SLF001 - no public listing
    for family in sorted(registry.collect(), key=lambda family: family.name):
        if family.name.startswith("roost_"):
            names = labels.get(family.name, getattr(family, "_labelnames", ()))
            shown = ", ".join(f"`{label}`" for label in names) or "none"
            rows.append(
                f"| `{family.name}{'_total' if family.type == 'counter' else ''}` | {family.type} | {shown} | {family.documentation} |"
            )
    return "\n".join(rows)


def services_table() -> str:
    """Markdown: every method of every service that the contract's modules describe, with the comment beside it in the .proto file."""
    rows = ["| RPC | Request | Response | Meaning |", "| --- | --- | --- | --- |"]
    for module in (scheduler_pb2, coordinator_pb2, worker_pb2, gossip_pb2):
        text = (PROTO / module.DESCRIPTOR.name).read_text("utf-8")
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                asked = f"{'stream ' if method.client_streaming else ''}`{method.input_type.name}`"
                answered = f"{'stream ' if method.server_streaming else ''}`{method.output_type.name}`"
                rows.append(f"| `{service.name}.{method.name}` | {asked} | {answered} | {_comment(text, service.name, method.name)} |")
    return "\n".join(rows)


def _comment(proto: str, service: str, method: str) -> str:
    """What stands before the method in its service. Raises LookupError where nothing does."""
    body = proto[proto.index(f"service {service} {{") :]
    found = re.search(rf"((?:^  //.*\n)+)^  rpc {method}\(", body, re.MULTILINE)
    if found is None:
        raise LookupError(f"{service}.{method} has no comment")
    return " ".join(line.strip().removeprefix("//").strip() for line in found[1].splitlines()).replace("|", "\\|")


def parts() -> dict[str, str]:
    """Every generated part by name."""
    shared, coordinator, worker, gossip = (CollectorRegistry() for _ in range(4))
    ServiceMetrics("coordinator", shared)
    CoordinatorMetrics(coordinator, "weighted-score")
    WorkerMetrics(worker)
    GossipMetrics(gossip, "weighted-score")
    return {
        "coordinator-settings": settings_table(CoordinatorSettings),
        "worker-settings": settings_table(WorkerSettings),
        "gossip-settings": settings_table(GossipSettings),
        "services": services_table(),
        "refusals": status_table(),
        "flow-diagram": diagram(),
        "flow-table": rows_table(),
        "service-metrics": metrics_table(shared),
        "coordinator-metrics": metrics_table(coordinator),
        "worker-metrics": metrics_table(worker),
        "gossip-metrics": metrics_table(gossip),
    }


def main() -> int:
    generated = parts()
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        before = path.read_text()
        after = PART.sub(lambda found: f"{found[1]}{generated[found['name']]}\n{found[3]}", before)
        if before != after and "--check" in sys.argv:
            stale.append(path.name)
        elif before != after:
            path.write_text(after)
            print(f"wrote {path.name}")
    if stale:
        print(f"not what the code says: {', '.join(stale)}; run make docs and commit the result", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
