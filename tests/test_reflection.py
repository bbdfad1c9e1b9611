"""A client that has no generated code: it learns the services by reflection and speaks JSON, as grpcurl does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from local_cluster import LocalCluster

pytestmark = pytest.mark.slow


def call_json(channel: grpc.Channel, service: str, method: str, text: str) -> dict[str, object]:
    """Calls a unary method by name with a JSON request; the answer as a dictionary, zero values included."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    described = pool.FindServiceByName(service).methods_by_name[method]
    request_type = message_factory.GetMessageClass(described.input_type)
    response_type = message_factory.GetMessageClass(described.output_type)
    call: grpc.UnaryUnaryMultiCallable[Message, Message] = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response_type.FromString,
    )
    answer = call(json_format.Parse(text, request_type()), timeout=10)
    return json_format.MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def test_reflection_lists_the_services_and_json_requests_work(make_cluster: Callable[..., LocalCluster], simulated_models: Path) -> None:
    cluster = make_cluster(models_file=simulated_models)
    cluster.start_coordinator()
    cluster.start_worker("worker-1")
    cluster.await_live(1)
    with grpc.insecure_channel(cluster.address) as channel:
        listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
        assert {"roost.v1.Scheduler", "roost.v1.Coordinator", "grpc.health.v1.Health"} <= listed
        answer = call_json(channel, "roost.v1.Scheduler", "Schedule", '{"request_id": "r1", "model_required": "sim-a", "priority": 3}')
        report = {
            "report": {"node_id": "simple-1", "loaded_models": ["sim-b"], "queue_depth": 2, "gpu_utilization": 0.25, "timestamp": 1.5}
        }
        accepted = call_json(channel, "roost.v1.Coordinator", "ReportLoad", json.dumps(report))
    assert answer["worker_id"] == "worker-1"
    assert answer["action"] == "ACTION_COLD_START"
    assert answer["request_id"] == "r1"
    assert accepted == {"accepted": True}
    with grpc.insecure_channel(f"127.0.0.1:{cluster.worker_ports['worker-1']}") as channel:
        assert "roost.v1.Worker" in ProtoReflectionDescriptorDatabase(channel).get_services()
