"""The verbs of the gossip plane: members, and the keys of its sidecars."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from roost.client.cli.connection import Connection, calls_cluster
from roost.client.cli.exits import ExitCode
from roost.client.cli.options import OPERATE, AsJson, Timeout, examples, positive
from roost.client.cli.running import Json, error_text, print_json, run, say
from roost.client.cli.tables import console_for_stdout, table
from roost.client.errors import ClusterUnreachable
from roost.client.gossip import GossipClient, Membership, MemberSnapshot, MemberStatus
from roost.cluster.errors import InvalidField, RoostError

KEY_BYTES = 32
RECONNECT_S = 1.0  # a watcher that lost its sidecar asks again this often

Here = Annotated[
    bool,
    typer.Option("--here", metavar="", help="Only the sidecar that is called, not every one that is alive.", show_default=False),
]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="Name of a key (see `roost keys list`).", show_default=False)]


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=OPERATE, epilog=examples("roost members --watch", "roost members --json -c 10.0.0.5:7846"))(members)
    keys = typer.Typer(no_args_is_help=True, help="Show and rotate the keys of an encrypted gossip cluster, on all its sidecars.")
    keys.command(name="generate", epilog=examples("roost keys generate > roost.key"))(generate_key)
    keys.command(name="list")(list_keys)
    keys.command(name="install", epilog=examples("roost keys install $(roost keys generate)"))(install)
    keys.command(name="use")(use)
    keys.command(name="remove")(remove)
    app.add_typer(keys, name="keys", rich_help_panel=OPERATE)


# --- members --------------------------------------------------------------------------------------


@calls_cluster
def members(
    *,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", metavar="", help="Show every change until Ctrl-C; with --json one object a line.")
    ] = False,
    interval: Annotated[float, typer.Option("--interval", metavar="S", callback=positive, help="Seconds between changes shown.")] = 1.0,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
    connection: Connection,
) -> None:
    """Show the sidecars of a gossip cluster and what one of them (127.0.0.1:7846 if not given) believes of each."""

    async def main() -> None:
        async with connection.sidecars(timeout_s=timeout) as client:
            if watch:
                await _watch(client, interval, as_json=as_json)
            else:
                _show(await client.members(), as_json=as_json)

    run(main, as_json=as_json)


async def _watch(client: GossipClient, interval_s: float, *, as_json: bool) -> None:
    """Until Ctrl-C; a sidecar that went away is waited for."""
    while True:
        try:
            async with aclosing(client.watch_members(interval_s)) as changes:
                async for change in changes:
                    _show(change, as_json=as_json)
        except ClusterUnreachable as error:
            say(f"roost: {error_text(error)}")
            await asyncio.sleep(RECONNECT_S)


def _show(membership: Membership, *, as_json: bool) -> None:
    if as_json:
        print_json({"cluster": membership.cluster, "members": [_member_json(member) for member in membership.members]})
    else:
        console_for_stdout().print(_members_table(membership))


def _member_json(member: MemberSnapshot) -> dict[str, Json]:
    return {**asdict(member), "status": member.status.value, "worker": member.worker.value}


def _members_table(membership: Membership) -> Table:
    shown = table("MEMBER", "STATUS", "ADDRESS", "CALLED AT", "WORKER", "AGE", "EPOCH", right=("AGE", "EPOCH"))
    for member in membership.members:
        name = f"{member.node_id} (asked)" if member.is_self else member.node_id
        age = f"{member.age_s:.1f} s" if member.worker.value != "none" else "-"
        shown.add_row(name, member.status.value, member.address, member.grpc_address or "-", member.worker.value, age, str(member.epoch))
    return shown


# --- keys -----------------------------------------------------------------------------------------


def generate_key() -> None:
    """Print a new key, for a key file or for `roost keys install`."""
    print(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())


@calls_cluster
def list_keys(*, here: Here = False, timeout: Timeout = 10.0, as_json: AsJson = False, connection: Connection) -> None:
    """Show which keys each sidecar has, and which it seals with. The keys themselves are never shown."""

    async def names(client: GossipClient) -> str:
        return ", ".join(f"{key.key_id}{' (in use)' if key.is_in_use else ''}" for key in await client.keys()) or "not encrypted"

    _on_each(names, connection, here=here, timeout_s=timeout, as_json=as_json)


@calls_cluster
def install(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key in base64 (see `roost keys generate`).", show_default=False)],
    *,
    here: Here = False,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
    connection: Connection,
) -> None:
    """Let every sidecar accept KEY too: first step of a rotation."""

    async def change(client: GossipClient) -> str:
        return _saved(await client.install_key(_key(key)))

    _on_each(change, connection, here=here, timeout_s=timeout, as_json=as_json)


@calls_cluster
def use(key_id: KeyId, *, here: Here = False, timeout: Timeout = 10.0, as_json: AsJson = False, connection: Connection) -> None:
    """Let every sidecar seal with a key that all have: second step."""

    async def change(client: GossipClient) -> str:
        return _saved(await client.use_key(key_id))

    _on_each(change, connection, here=here, timeout_s=timeout, as_json=as_json)


@calls_cluster
def remove(key_id: KeyId, *, here: Here = False, timeout: Timeout = 10.0, as_json: AsJson = False, connection: Connection) -> None:
    """Let no sidecar accept a key that is not in use any more: last step."""

    async def change(client: GossipClient) -> str:
        return _saved(await client.remove_key(key_id))

    _on_each(change, connection, here=here, timeout_s=timeout, as_json=as_json)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidField("key", "is no base64; make one with: roost keys generate") from error
    if len(key) != KEY_BYTES:
        raise InvalidField("key", f"has {len(key)} bytes; a key has {KEY_BYTES}. Make one with: roost keys generate")
    return key


def _saved(is_saved: bool) -> str:
    return "done" if is_saved else "done, but its key file could not be written: lost when it restarts"


def _on_each(act: Callable[[GossipClient], Awaitable[str]], connection: Connection, *, here: bool, timeout_s: float, as_json: bool) -> None:
    """The same on every sidecar that is alive; what became of it on each is shown, and any failure is the exit code."""

    async def main() -> ExitCode:
        results: dict[str, str] = {}
        failed: list[str] = []
        for name, sidecar in (await _sidecars(connection, here=here, timeout_s=timeout_s)).items():
            try:
                async with sidecar.sidecars(timeout_s=timeout_s) as client:
                    results[name] = await act(client)
            except RoostError as error:
                results[name] = error_text(error)
                failed.append(name)
        if as_json:
            print_json({"results": {**results}, "failed": [*failed]})
        else:
            shown = table("SIDECAR", "RESULT")
            for name, result in results.items():
                shown.add_row(name, result)
            console_for_stdout().print(shown)
        return ExitCode.FAILED if failed else ExitCode.OK

    run(main, as_json=as_json)


async def _sidecars(connection: Connection, *, here: bool, timeout_s: float) -> Mapping[str, Connection]:
    """By name: the one called, or every one it believes to be alive."""
    async with connection.sidecars(timeout_s=timeout_s) as client:
        known = (await client.members()).members
    if here:
        return {member.node_id: connection for member in known if member.is_self}
    return {
        member.node_id: Connection([member.grpc_address], connection.tls)
        for member in known
        if member.status in (MemberStatus.ALIVE, MemberStatus.SUSPECT) and member.grpc_address
    }
