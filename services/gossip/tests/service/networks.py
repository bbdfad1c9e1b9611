"""A small network of namespaces: a switch in one, and each member in another, with an address of its own and rules of its own.

Needs root, `ip` and `iptables`. The machine itself is on the switch too, so that a test can call everybody.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from .processes import Place


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Network:
    """Members are numbered from 1; the addresses are of a subnet that is drawn at random from 10.192.0.0/10."""

    def __init__(self, size: int) -> None:
        self._tag = secrets.token_hex(2)
        self._subnet = f"10.{192 + secrets.randbelow(64)}.{secrets.randbelow(256)}"
        self._numbers = range(1, size + 1)

    def place(self, name: str) -> Place:
        """Of the member whose name ends in its number."""
        number = int(name.rpartition("-")[2])
        return Place(self.address(number), ("ip", "netns", "exec", self._namespace(number)))

    def address(self, number: int) -> str:
        return f"{self._subnet}.{number}"

    def drop(self, number: int, *rule: str) -> None:
        """What the member receives and the rule matches, it loses."""
        self._rules(number, "--append", "INPUT", *rule, "--jump", "DROP")

    def drop_from(self, number: int, *others: int) -> None:
        for other in others:
            self.drop(number, "--source", self.address(other))

    def lost_packets(self, number: int) -> int:
        """How many packets of the member its rules have dropped."""
        listed = run(
            "ip", "netns", "exec", self._namespace(number), "iptables", "--wait", "--list", "INPUT", "--verbose", "--exact", "--numeric"
        )
        return sum(int(line.split()[0]) for line in listed.splitlines() if " DROP " in line)

    def heal(self) -> None:
        for number in self._numbers:
            self._rules(number, "--flush")

    def up(self) -> None:
        switch = self._namespace(0)
        run("ip", "netns", "add", switch)
        run("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "switch", "up")
        self._plug_in(254)
        run("ip", "address", "add", f"{self.address(254)}/24", "dev", self._link(254))
        run("ip", "link", "set", self._link(254), "up")
        for number in self._numbers:
            namespace, link = self._namespace(number), self._link(number)
            run("ip", "netns", "add", namespace)
            self._plug_in(number)
            run("ip", "link", "set", link, "netns", namespace)
            run("ip", "-n", namespace, "address", "add", f"{self.address(number)}/24", "dev", link)
            for device in (link, "lo"):
                run("ip", "-n", namespace, "link", "set", device, "up")

    def down(self) -> None:
        """Links go with their namespaces."""
        for number in (*self._numbers, 0):
            subprocess.run(("ip", "netns", "delete", self._namespace(number)), capture_output=True, check=False, timeout=20)

    def _plug_in(self, number: int) -> None:
        link = self._link(number)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", f"{link}p")
        run("ip", "link", "set", f"{link}p", "netns", self._namespace(0))
        run("ip", "-n", self._namespace(0), "link", "set", f"{link}p", "master", "switch", "up")

    def _rules(self, number: int, *arguments: str) -> None:
        run("ip", "netns", "exec", self._namespace(number), "iptables", "--wait", *arguments)

    def _namespace(self, number: int) -> str:
        return f"roost-{self._tag}-{number}"

    def _link(self, number: int) -> str:
        return f"rst{self._tag}{number}"


@contextlib.contextmanager
def network(size: int) -> Iterator[Network]:
    """Skips the test where there can be none, saying why."""
    missing = [tool for tool in ("ip", "iptables") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"network namespaces need root, ip and iptables; here is no {' and no '.join(missing or ['root'])}")
    made = Network(size)
    try:
        try:
            made.up()
        except AssertionError as failure:
            pytest.skip(f"no network namespaces can be made here: {failure}")
        yield made
    finally:
        made.down()
