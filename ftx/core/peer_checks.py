"""Judgements about the way to one peer: from what was measured to a sentence and a way out. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import attrs

from ftx import limits
from ftx.core.checks import Check, Figure, bad, fair, good
from ftx.errors import FtxError
from ftx.text import duration, plural, size

__all__ = [
    "Speed",
    "judge_dial",
    "judge_echo",
    "judge_mtu",
    "judge_peer_clock",
    "judge_query",
    "judge_speed",
    "limited_by",
]

#: Seconds in which a connection stands unless its first packet was lost: that one is sent again after a second.
_SLOW_CONNECT: Final = 0.9
#: Seconds by which two clocks may differ before times of files mislead.
_CLOCKS: Final = 60.0
#: The share of one processor's time from which it is what limits.
_BUSY: Final = 0.85
#: The share of a rate limit that counts as reaching it, and of the time that a receiver may hold a sender up.
_AT_LIMIT: Final = 0.7
_HELD_UP: Final = 0.5
#: Of a hundred segments, those sent again from which a network loses noticeably.
_LOSSY: Final = 0.01
_LOSSES: Final = 10

#: Errors of a connection that mean that nothing there has taken it.
_NOT_TAKEN: Final = {
    "connection-refused": (
        "refused: the machine is there, and nothing listens on the port",
        "start ftx-server there, or name its port: -p PORT",
    ),
    "connect-timeout": (
        "filtered: nothing answers on the port, neither yes nor no",
        "a firewall there may drop it (ufw allow {port}/tcp), or the machine is off, or has another address by now",
    ),
    "network-unreachable": (
        "cannot be tried: there is no way to that address",
        "check the cable, the Wi-Fi and the route: ip route get {host}",
    ),
}
#: Errors of something that took the connection, and is no ftx.
_NOT_FTX: Final = frozenset(
    {"tls-failed", "not-ftx", "hello-timeout", "connection-lost", "connection-reset", "bad-message", "unknown-frame",
     "frame-too-large", "wrong-state", "protocol-error", "peer-silent"}
)  # fmt: skip


def _ms(seconds: float) -> str:
    """Milliseconds with as many places as mean something."""
    places = 2 if seconds < 0.001 else 1 if seconds < 0.1 else 0
    return f"{seconds * 1000:.{places}f} ms"


def judge_echo(
    address: str, means: str, sent: int, trips: Sequence[float], why: str, *, tcp: float | None = None
) -> Check:
    """ICMP echoes to an address: `means` as `ftx.net.echo` has it; `tcp` is TCP's round trip in seconds, if known."""
    if means == "none":
        measured = f"; by TCP alone the round trip is {_ms(tcp)}" if tcp else ""
        return good(
            "icmp",
            f"this user may send no ICMP{measured}",
            address,
            means="tcp",
            round_trip_ms=None if tcp is None else round(tcp * 1000, 3),
        )
    how = "a raw socket" if means == "raw" else "the unprivileged ICMP socket"
    figures: dict[str, Figure] = {"means": means, "sent": sent, "received": len(trips)}
    if not trips:
        said = {
            "": "it may be off, or a firewall drops ICMP, which ftx does not need",
            "no-host": "nobody has that address on its link: is the machine on, and is this still its address?",
            "no-route": "there is no route to it: ip route get " + address.partition("%")[0],
            "forbidden": "a firewall on the way, or of this machine, forbids it",
            "too-far": "packets go round in circles on the way: a router is set up wrongly",
            "unreachable": "somebody on the way says that it cannot be reached",
        }
        return fair("icmp", f"no answer to ICMP echo ({how})", said.get(why, said["unreachable"]), address, **figures)
    best, mean = min(trips), sum(trips) / len(trips)
    loss = 1 - len(trips) / sent
    sentence = f"ICMP echo ({how}): round trip {_ms(mean)}, best {_ms(best)}, {loss:.0%} lost"
    figures |= {"round_trip_ms": round(mean * 1000, 3), "best_ms": round(best * 1000, 3), "loss": round(loss, 3)}
    if loss:
        return fair(
            "icmp", sentence, "the network loses packets: Wi-Fi, a bad cable, or an overloaded link", address, **figures
        )
    return good("icmp", sentence, address, **figures)


def judge_mtu(address: str, means: str, mtu: int, link: int, *, black_hole: bool) -> Check | None:
    """The path MTU, `mtu` 0 where it is not known; `link` is our own link's. `means` `tcp` for what TCP has learnt."""
    if not mtu:
        return None
    how = {"raw": "raw ICMP", "datagram": "unprivileged ICMP", "tcp": "TCP alone"}[means]
    figures: dict[str, Figure] = {"means": means, "mtu": mtu, "link_mtu": link}
    if black_hole:
        return fair(
            "mtu",
            f"packets over {mtu} bytes vanish on the way without a word ({how}); this link sends up to {link}",
            f"let ICMP through on the way, or send smaller ones: ip link set dev DEVICE mtu {mtu}",
            address,
            **figures,
        )
    smaller = f"; this link would take {link}" if 0 < mtu < link else ""
    return good("mtu", f"packets of up to {mtu} bytes pass ({how}){smaller}", address, **figures)


def judge_query(
    address: str, answered: Sequence[str], tried: Sequence[str], *, near: bool, port: int, cut_off: bool = False
) -> Check:
    """Which ways of asking got an answer from the peer; `near` if it is on a link of ours.

    `cut_off` if the kernel knows no way there, or finds nobody on the link who has the address.
    """
    names = {
        "broadcast": "broadcast",
        "multicast4": "IPv4 multicast",
        "multicast6": "IPv6 multicast",
        "unicast": "unicast",
    }
    said = ", ".join(names[way] for way in answered)
    figures: dict[str, Figure] = {"answered": " ".join(answered), "tried": " ".join(tried)}
    if cut_off and not answered:
        return fair(
            "discovery",
            "no query reaches that address",
            "what the check of TCP or ICMP says about the way there comes first",
            address,
            **figures,
        )
    if not near and not answered:
        return good("discovery", "it is behind a router, where nobody has to answer discovery", address, **figures)
    if not answered:
        return fair(
            "discovery",
            f"it answers no query on UDP port {port}: it is not found by its name",
            f"is a daemon running there, without --no-discovery? A firewall there may drop it: ufw allow {port}/udp",
            address,
            **figures,
        )
    missing = [names[way] for way in tried if way not in answered]
    if missing and not {"broadcast", "multicast4", "multicast6"} & set(answered):
        return fair(
            "discovery",
            f"it answers by {said}, not by {', '.join(missing)}: it is found only where its address is known",
            "the network keeps machines apart (guest Wi-Fi, VPN, IGMP snooping), or a firewall drops multicast",
            address,
            **figures,
        )
    return good(
        "discovery", f"it answers by {said}" + (f", not by {', '.join(missing)}" if missing else ""), address, **figures
    )


def judge_dial(
    address: str, host: str, port: int, error: FtxError | None, seconds: float, *, proved: bool
) -> list[Check]:
    """What became of a connection: TCP, and then who answers. `proved` if the other end has proved a key.

    `seconds` is how long TCP took where it stood. What a key means is for others to judge: `proved` with no error gives
    the TCP check alone.
    """
    if error is not None and error.name in _NOT_TAKEN and not proved:
        sentence, hint = _NOT_TAKEN[error.name]
        return [bad("tcp", f"TCP {sentence}", hint.format(port=port, host=host), address, 4, why=error.name)]
    if error is not None and error.name == "name-not-found":
        return [bad("name", error.message, error.hint, address, 4)]
    taken = f"TCP port {port} takes connections"
    if seconds > _SLOW_CONNECT:
        tcp = fair(
            "tcp",
            f"{taken}, slowly: {duration(seconds)}",
            "the first packet was lost, or the machine is overloaded",
            address,
            seconds=round(seconds, 3),
        )
    else:
        tcp = good(
            "tcp", f"{taken}" + (f" within {_ms(seconds)}" if seconds else ""), address, seconds=round(seconds, 4)
        )
    if error is None:
        return [tcp]
    if not proved and error.name in _NOT_FTX:
        return [
            tcp,
            bad(
                "tls",
                "what answers there is no ftx: " + error.message,
                f"another program has port {port} there; name the port of the daemon: -p PORT",
                address,
                4,
                why=error.name,
            ),
        ]
    return [tcp]


def judge_peer_clock(ahead: float, round_trip: float) -> Check:
    """The peer's clock beside ours; `ahead` in seconds, exact to half the round trip."""
    off = abs(ahead)
    figures: dict[str, Figure] = {"ahead_s": round(ahead, 3)}
    if off <= _CLOCKS:
        return good("clock", f"its clock and ours agree to within {_ms(max(off, round_trip / 2))}", **figures)
    return fair(
        "clock",
        f"its clock is {duration(off)} {'ahead of' if ahead > 0 else 'behind'} ours",
        "let both be kept right: timedatectl set-ntp true",
        **figures,
    )


@attrs.frozen
class Speed:
    """A probe as the judge sees it. Rates in bytes per second, 0 for not known; shares of a processor or of time."""

    direction: Literal["up", "down"]
    rate: float
    #: The limit that the peer's operator has set for it.
    limit: int = 0
    #: How busy the thread for the network was, here and there.
    here: float = 0.0
    there: float = 0.0
    #: What the receiver's disk takes.
    disk: float = 0.0
    #: The share of the time in which the receiver held the sender up.
    held_up: float = 0.0
    #: Segments sent again, and segments in all; the congestion window in bytes and the round trip in seconds.
    retransmits: int = 0
    segments: int = 0
    window: int = 0
    round_trip: float = 0.0


def limited_by(speed: Speed) -> str:
    """What keeps a transfer from being faster: `rate limit`, `disk there`, `processor here`, …, else `network`."""
    receiver, sender = ("there", "here") if speed.direction == "up" else ("here", "there")
    if speed.limit and speed.rate >= speed.limit * _AT_LIMIT:
        return "rate limit"
    if speed.disk and speed.disk < speed.rate:
        return f"disk {receiver}"
    busy = {"here": speed.here, "there": speed.there}
    if busy[receiver] >= _BUSY and busy[receiver] >= busy[sender]:
        return f"processor {receiver}"
    if busy[sender] >= _BUSY:
        return f"processor {sender}"
    return f"processor {receiver}" if speed.held_up >= _HELD_UP else "network"


def judge_speed(speed: Speed) -> Check:
    """How fast content travels, and what limits it."""
    what = "sending to it" if speed.direction == "up" else "getting from it"
    limit = limited_by(speed)
    words = {
        "rate limit": f"its rate limit ({size(speed.limit)}/s) is what limits",
        "disk here": f"the disk here ({size(speed.disk)}/s) is what limits",
        "disk there": f"the disk there ({size(speed.disk)}/s) is what limits",
        "processor here": "this machine's processor is what limits",
        "processor there": "its processor is what limits",
        "network": "the network is what limits",
    }
    if limit == "network" and speed.round_trip >= limits.LANE_ROUND_TRIP:  # a job would take lanes
        words[limit] += " one connection, and much content takes several"
    trip = f", round trip {_ms(speed.round_trip)}" if speed.round_trip else ""
    window = f", window {size(speed.window)}" if speed.window else ""
    again = f", {plural(speed.retransmits, 'packet')} sent again" if speed.retransmits else ""
    sentence = f"{what}: {size(speed.rate)}/s; {words[limit]}{trip}{window}{again}"
    figures: dict[str, Figure] = {
        "rate": round(speed.rate),
        "limited_by": limit,
        "rate_limit": speed.limit,
        "processor_here": round(speed.here, 3),
        "processor_there": round(speed.there, 3),
        "disk": round(speed.disk),
        "retransmits": speed.retransmits,
        "window": speed.window,
        "round_trip_ms": round(speed.round_trip * 1000, 3),
    }
    if speed.retransmits >= _LOSSES and speed.retransmits > speed.segments * _LOSSY:
        hint = "the network loses packets: Wi-Fi, a bad cable, or an overloaded link"
        return fair("speed", sentence, hint, speed.direction, **figures)
    return good("speed", sentence, speed.direction, **figures)
