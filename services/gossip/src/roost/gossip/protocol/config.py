"""Every number the protocol depends on, with its unit and the reason for its default.

`SwimParameters` are HashiCorp memberlist's LAN profile; `StateParameters` are Roost's own; `Bounds` keep memory finite.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Address = tuple[str, int]  # an IP literal (a seed may have a DNS name, resolved by the driver at each attempt) and a port

MAX_EPOCH = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SwimParameters:
    """Failure detection and rumours. Seconds unless the name says otherwise."""

    probe_interval_s: float = 1.0
    probe_timeout_s: float = 0.5
    indirect_probes: int = 3
    nack_share: float = 0.8  # of the probe timeout: a helper says "no answer yet" in time for the prober to hear it
    suspicion_alpha: int = 4
    suspicion_beta: int = 6
    retransmit_lambda: int = 4
    gossip_interval_s: float = 0.2
    gossip_fanout: int = 3
    gossip_to_the_dead_s: float = 30.0
    push_pull_interval_s: float = 30.0
    push_pull_threshold: int = 32  # members up to which the interval is not stretched
    max_health_score: int = 7
    late_s: float = 0.2  # a timer this late means our own process stalled: nobody else is accused for it
    stream_timeout_s: float = 10.0
    join_retry_s: float = 1.0  # doubles up to max_join_retry_s
    max_join_retry_s: float = 30.0
    reseed_interval_s: float = 60.0  # islands that share a seed find each other without an operator
    reseed_dead_s: float = 5.0  # while somebody is dead, the cluster as a whole asks a seed this often: its place may have been taken
    reconnect_interval_s: float = 30.0
    prune_dead_after_s: float = 3600.0  # as long as the coordinator's view remembers the dead
    prune_left_after_s: float = 60.0
    tombstone_s: float = 86_400.0
    leave_linger_s: float = 1.0  # five gossip rounds: the goodbye has left before the process does
    is_lifeguard_enabled: bool = True  # off only to measure what it is worth
    is_doubting: bool = True  # who leaves a state exchange unanswered is probed at once

    def __post_init__(self) -> None:
        if not 0 < self.probe_timeout_s < self.probe_interval_s:
            raise ValueError("probe_timeout_s must be more than 0 and less than probe_interval_s")
        if self.suspicion_alpha < 1 or self.suspicion_beta < 1 or self.retransmit_lambda < 1:
            raise ValueError("suspicion_alpha, suspicion_beta and retransmit_lambda must be 1 or more")
        if min(self.gossip_interval_s, self.push_pull_interval_s, self.reconnect_interval_s) <= 0:
            raise ValueError("intervals must be more than 0 s")


LAN = SwimParameters()
SERVING = SwimParameters(probe_interval_s=0.5, probe_timeout_s=0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateParameters:
    """Dissemination of worker state."""

    is_enabled: bool = True
    interval_s: float = 0.2
    max_interval_s: float = 1.0  # how far a byte budget may stretch it
    fanout: int = 2
    bytes_per_s: float = 24_000.0  # of everything this node sends in datagrams
    answer_s: float = 0.1  # an exchange unanswered for so long makes us probe: a wrong guess costs one ping
    first_told: int = 6  # members who get a new record of ours at once, 80 bytes each
    push_records: int = 90  # when a digest of all owners does not fit a packet
    sampled_owners: int = 150
    min_publish_s: float = 0.5  # "at most twice a second"
    heartbeat_s: float = 5.0  # "at least every 5 s"
    tombstone_s: float = 120.0  # four push/pull rounds: whoever was away that long takes the whole state anew
    membership_room_bytes: int = 140  # of every state packet: four rumours
    clock_window_s: float = 300.0  # a smallest delay older than this is forgotten, so that clocks may drift


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A limit on everything that a peer could make grow."""

    datagram_bytes: int = 1_400  # no fragmentation on any path with Ethernet's 1,500
    stream_bytes: int = 4 * 2**20
    members: int = 5_000  # five times the largest cluster simulated
    tombstones: int = 10_000
    rumours: int = 4_096
    relays: int = 1_024
    outbox_frames: int = 8_192
    events: int = 10_000
    streams: int = 64
    conflicts: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One node's identity and parameters. `epoch` must be larger in each life of the process (wall milliseconds at boot will do)."""

    name: str
    address: Address
    epoch: int
    swim: SwimParameters = LAN
    state: StateParameters = field(default_factory=StateParameters)
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= 64:
            raise ValueError("name must have 1-64 characters")
        if not 1 <= self.epoch <= MAX_EPOCH:
            raise ValueError("epoch must be 1 to 2**63 - 1")
