"""Who may do what, and how much: authorisation, limits and the connection quota."""

from __future__ import annotations

import ipaddress
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fastrelay.api.model import (
    Advice,
    Check,
    Cidr,
    Model,
    Name,
    Prefix,
    Quantity,
    Size,
    bad,
    unique_by,
)
from fastrelay.api.secrets import SecretValue

Access = Literal["Anyone", "Token", "Nobody"]
Action = Literal["Publish", "Subscribe"]


class AccessToken(SecretValue):
    """A static token, which clients show as AUTHORIZATION_TOKEN in SETUP or in a request."""

    name: Name
    """What the token's owner is called; logs and metrics never show the value."""

    allow: list[Action] = Field(default=["Publish", "Subscribe"], min_length=1, max_length=2)
    """What the token permits within the rule."""


class Rule(Model):
    """The policy for one namespace prefix. Of all rules that match, only the longest counts."""

    checks: ClassVar[tuple[Check, ...]] = tuple(
        Check(
            f"self.{field} != 'Token' || self.tokens.exists(t, '{action}' in t.allow)",
            f"{field} is Token but no token allows {action}; "
            f"add one to tokens, or write {field}: Nobody",
        )
        for field, action in (("publish", "Publish"), ("subscribe", "Subscribe"))
    )

    prefix: Prefix
    """Namespace fields separated by slashes; whole fields match. '' is every namespace."""

    publish: Access = "Token"
    """Who may announce namespaces and publish tracks under the prefix."""

    subscribe: Access = "Anyone"
    """Who may subscribe, fetch and ask for names under the prefix."""

    tokens: list[AccessToken] = Field(
        default=[], max_length=16, json_schema_extra=unique_by("name")
    )
    """The tokens that count where publish or subscribe says Token."""

    @model_validator(mode="after")
    def _tokens_are_used(self) -> Self:
        if len({token.name for token in self.tokens}) != len(self.tokens):
            raise bad("tokens has two entries of one name; give each its own")
        given = {action for token in self.tokens for action in token.allow}
        for action, access in (("Publish", self.publish), ("Subscribe", self.subscribe)):
            if access == "Token" and action not in given:
                field = action.lower()
                raise bad(
                    f"{field} is Token but no token allows {action}; "
                    f"add one to tokens, or write {field}: Nobody"
                )
        return self


class Authorization(Model):
    """Policies per namespace prefix. Namespaces without a rule follow the two defaults."""

    publish: Literal["Anyone", "Nobody"] = "Anyone"
    """Who may publish where no rule matches."""

    subscribe: Literal["Anyone", "Nobody"] = "Anyone"
    """Who may subscribe where no rule matches."""

    rules: list[Rule] = Field(default=[], max_length=256, json_schema_extra=unique_by("prefix"))
    """One rule per prefix."""

    @model_validator(mode="after")
    def _one_rule_per_prefix(self) -> Self:
        prefixes = [rule.prefix for rule in self.rules]
        for prefix in prefixes:
            if prefixes.count(prefix) > 1:
                raise bad(f"rules has two entries for prefix {prefix!r}; merge them into one")
        return self


class Limits(Model):
    """How much one relay process does before it refuses more, so that nobody can exhaust it."""

    sessions: int = Field(default=10_000, ge=1, le=1_000_000)
    """Sessions at a time. Above it new connections are refused."""

    requests_per_session: int = Field(default=1_000, ge=1, le=100_000)
    """Live requests (subscriptions, fetches, namespaces) of one session."""

    fetches_per_session: int = Field(default=64, ge=1, le=10_000)
    """Live fetches among them."""

    tracks: int = Field(default=10_000, ge=1, le=1_000_000)
    """Tracks the relay carries at a time."""

    namespaces: int = Field(default=10_000, ge=1, le=1_000_000)
    """Namespaces announced to the relay at a time."""

    namespaces_per_session: int = Field(default=1_000, ge=1, le=100_000)
    """Namespaces one session may announce."""

    subscriber_backlog: Size = Quantity("16Mi")
    """How far one subscription may lag behind. Beyond it, whole streams are lost, those of the
    lowest priority first, and then the subscription ends with TOO_FAR_BEHIND."""

    subscriber_streams: int = Field(default=512, ge=1, le=100_000)
    """Streams of one subscription that may be open or waiting at a time, likewise."""


class ConnectionLimit(Model):
    """Connections of one address, or of one address prefix."""

    connections: int = Field(ge=1, le=1_000_000)
    """Connections at a time."""

    new_per_second: int = Field(ge=1, le=1_000_000)
    """New connections a second, on average."""

    burst: int = Field(ge=1, le=1_000_000)
    """New connections at once after a quiet time."""


class Quota(Model):
    """How many connections clients may open. Only packets that would open a new connection are
    refused, never those of an established one."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.exempt.all(b, isCIDR(b) && cidr(b) == cidr(b).masked())",
            "exempt has an entry that is no address block; write a block like 10.0.0.0/8",
        ),
    )

    mode: Literal["Kernel", "UserSpace", "Disabled"] = "Kernel"
    """Where the excess is refused. Kernel uses user space where the hook is missing."""

    action: Literal["Refuse", "Drop"] = "Refuse"
    """Refuse answers CONNECTION_REFUSED at a bounded rate; Drop stays silent."""

    per_address: ConnectionLimit = ConnectionLimit(connections=1024, new_per_second=64, burst=1024)
    """For each client address. Generous, as an office behind one NAT is one address."""

    per_prefix: ConnectionLimit = ConnectionLimit(connections=4096, new_per_second=256, burst=4096)
    """For each prefix of client addresses."""

    total: int = Field(default=100_000, ge=1, le=10_000_000)
    """Connections of all clients together."""

    attempts_per_second: int = Field(default=1_000, ge=1, le=1_000_000)
    """First packets of all clients together that are looked at. Those above it get no answer, and
    their senders try again; anybody can send them under any address, so they count for nobody."""

    ipv4_prefix_length: int = Field(default=24, ge=8, le=32)
    """How many leading bits of an IPv4 address make its prefix."""

    ipv6_prefix_length: int = Field(default=64, ge=16, le=128)
    """How many leading bits of an IPv6 address make its prefix."""

    exempt: list[Cidr] = Field(default=[], max_length=256)
    """Address blocks that are never refused, such as other relays."""

    device: Annotated[str | None, Advice("a device name like eth0")] = Field(
        default=None, max_length=15, pattern=r"^[^/\s]+$"
    )
    """A network device of the node to refuse at with XDP. Unset: the relay's own veth, with TC.
    On Kubernetes one of those that the chart's agent.quotaDevices allows."""

    @property
    def hook(self) -> str:
        """The device at which the kernel is to refuse; empty: at none."""
        return self.device or "" if self.mode == "Kernel" else ""

    @model_validator(mode="after")
    def _blocks_are_blocks(self) -> Self:
        for block in self.exempt:
            try:
                ipaddress.ip_network(block)
            except ValueError as error:
                raise bad(f"exempt: {error}; write a block like 10.0.0.0/8") from None
        return self
