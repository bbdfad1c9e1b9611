"""Commands and results survive the wire."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.errors import InvalidField
from roost.service.operating.codec import (
    MAX_RESULT_TEXT,
    command_from_wire,
    command_to_wire,
    result_from_wire,
    result_to_wire,
    wish_from_wire,
)
from roost.service.operating.commands import Cancel, Command, CommandResult, Drain, LoadModel, UnloadModel, UnpinModel
from roost.v1 import coordinator_pb2

models = st.text(alphabet="abc-._/:", min_size=1, max_size=20).map(lambda name: f"m{name}")
commands = st.builds(
    Command,
    st.text(min_size=1, max_size=40),
    st.one_of(
        st.builds(LoadModel, models, is_pinned=st.booleans()),
        st.builds(UnloadModel, models, when_free=st.booleans()),
        st.builds(UnpinModel, models),
        st.builds(Drain, is_resume=st.booleans(), grace_s=st.none() | st.floats(0, 86_400)),
        st.builds(Cancel, st.text(min_size=1, max_size=40)),
    ),
)
results = st.builds(
    CommandResult,
    st.text(max_size=40),
    code=st.integers(0, 16),
    message=st.text(max_size=200),
    reason=st.text(max_size=40),
    elapsed_s=st.floats(0, 1e6),
    unfinished=st.none() | st.integers(0, 2**32 - 1),
)


@given(commands)
def test_a_command_comes_back_as_it_was(command: Command) -> None:
    assert command_from_wire(command_to_wire(command)) == command


@given(results)
def test_a_result_comes_back_as_it_was(result: CommandResult) -> None:
    assert result_from_wire(result_to_wire(result)) == result


@pytest.mark.parametrize("elapsed_s", [-1.0, math.inf, math.nan])
def test_a_result_that_took_no_real_time_is_refused(elapsed_s: float) -> None:
    with pytest.raises(InvalidField, match=r"result\.elapsed_s"):
        result_from_wire(coordinator_pb2.CommandResult(elapsed_s=elapsed_s))


def test_what_a_worker_explains_at_length_is_cut() -> None:
    assert len(result_from_wire(coordinator_pb2.CommandResult(message="x" * 9_000)).message) == MAX_RESULT_TEXT


def test_a_command_of_another_version_is_refused() -> None:
    with pytest.raises(InvalidField, match="action"):
        command_from_wire(coordinator_pb2.Command(command_id="c"))


def test_a_model_without_a_name_is_refused_before_anything_is_done() -> None:
    with pytest.raises(InvalidField, match="model"):
        command_from_wire(coordinator_pb2.Command(unload_model=coordinator_pb2.UnloadModelCommand()))


def test_replicas_and_a_worker_exclude_each_other() -> None:
    with pytest.raises(InvalidField, match="replicas"):
        wish_from_wire(coordinator_pb2.LoadModelRequest(model="m", replicas=2, worker_id="w"))
