"""What is in the maps, as plain data for people and for JSON. Keys and plaintext stay where they
are. Nothing is locked: a relay at work changes things while they are read."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import numpy as np

from fastrelay.fastpath import layout
from fastrelay.fastpath.bands import rate
from fastrelay.fastpath.layout import ConnectionState, Outcome, Reason, StreamState
from fastrelay.fastpath.maps import Maps

Row = dict[str, Any]


def tables(maps: Maps) -> dict[str, list[Row]]:
    """All that is in use, by table: ``relay`` (one row), ``connections``, ``bands``, ``tracks``,
    ``members``, ``streams``."""
    return {
        "relay": [_relay(maps)],
        "connections": _connections(maps),
        "bands": _bands(maps),
        "tracks": _tracks(maps),
        "members": _members(maps),
        "streams": _streams(maps),
    }


def counter_names() -> dict[int, str]:
    """Of the programs' counters by index: reasons, B's outcomes as ``B_SENT`` and so on."""
    names = {int(reason): reason.name for reason in Reason if reason is not Reason.B_OUTCOME}
    return names | {Reason.B_OUTCOME + outcome: f"B_{outcome.name}" for outcome in Outcome}


def counters(maps: Maps) -> dict[str, int]:
    """Those that are not 0, by reason."""
    names = counter_names()
    return {
        names.get(index, str(index)): count
        for index, count in enumerate(maps.counters.read())
        if count
    }


def _relay(maps: Maps) -> Row:
    row = maps.shared.rows[0]
    slot_next, slot_limit = int(row["slot_next"]), int(row["slot_limit"])
    return {
        "enabled": bool(row["enabled"]),
        "owned": bool(row["owner"]),
        "heartbeat_seconds": int(row["heartbeat"]) / 1e9,
        "packets": slot_next,
        "unsettled": max(0, slot_next + layout.SLOTS - slot_limit),
        "streams": int((maps.streams.rows["sequence"] // layout.STREAMS).sum()),
    }


def _connections(maps: Maps) -> list[Row]:
    rows = maps.connections.rows
    return [
        {
            "connection": index,
            "sends": bool(int(rows[index]["state"]) & ConnectionState.SEND),
            "receives": bool(int(rows[index]["state"]) & ConnectionState.RECEIVE),
            "local": _address(rows[index], "local"),
            "remote": _address(rows[index], "remote"),
            **_numbers(
                rows[index],
                "packet_number",
                "packet_number_limit",
                "stream_number",
                "stream_number_limit",
                "data_used",
                "data_limit",
                "bytes_sent",
                "bytes_limit",
                "packet_size_limit",
                "rx_largest",
                "rx_stream_next",
            ),
        }
        for index in np.flatnonzero(rows["state"]).tolist()
    ]


def _bands(maps: Maps) -> list[Row]:
    """Those in which anything happened, and all of connections with a rate or a level."""
    rows = maps.connections.rows
    found = []
    for index in np.flatnonzero(rows["state"]).tolist():
        of = rows[index]["bands"]
        for band, each in enumerate(of["each"]):
            if of["price"] or of["level"] or each["bytes"] or each["dropped"]:
                found.append(
                    {
                        "connection": index,
                        "band": band,
                        **_numbers(each, "bytes", "dropped"),
                        "rate": rate(int(each["price"])),
                        "whole_rate": rate(int(of["price"])),
                        "level": int(of["level"]),
                    }
                )
    return found


def _tracks(maps: Maps) -> list[Row]:
    rows, arrays = maps.tracks.rows, maps.arrays.rows
    found = []
    for pair in sorted(maps.channels.pairs()):
        row = rows[pair.value]
        found.append(
            {
                "track": pair.value,
                "connection": pair.owner - 1,
                "channel": pair.key,
                "members": int(arrays[int(row["array"])]["count"]),
                **_numbers(row, "packets", "bytes"),
            }
        )
    return found


def _members(maps: Maps) -> list[Row]:
    rows = maps.members.rows
    names = ("connection", "track", "first_ordinal", "last_ordinal", "priority")
    return [
        {"member": index, **_numbers(rows[index], *names, "streams", "packets", "bytes")}
        for index in np.flatnonzero(rows["state"]).tolist()
    ]


def _streams(maps: Maps) -> list[Row]:
    rows = maps.streams.rows
    return [
        {
            "stream": int(rows[index]["sequence"]),
            "state": StreamState(int(rows[index]["state"])).name,
            **_numbers(rows[index], "connection", "stream_id", "track", "ordinal", "next"),
            "members": int(maps.arrays.rows[int(rows[index]["array"])]["count"]),
        }
        for index in np.flatnonzero(rows["state"]).tolist()
    ]


def _numbers(row: Any, *names: str) -> Row:
    return {name: int(row[name]) for name in names}


def _address(row: Any, side: str) -> str:
    raw = row[f"{side}_address"].tobytes()
    port = socket.ntohs(int(row[f"{side}_port"]))
    if int(row["family"]) == 6:
        return f"[{ipaddress.IPv6Address(raw)}]:{port}"
    return f"{ipaddress.IPv4Address(raw[:4])}:{port}"
