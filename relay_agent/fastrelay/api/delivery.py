"""How objects travel: the cache, congestion, and the way through the kernel."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from fastrelay.api.model import Check, Model, Percent, Quantity, Size, bad

BANDS = 4
"""As many as there are in the data plane."""


class Cache(Model):
    """Objects kept for late joiners and FETCH."""

    max_age_seconds: int = Field(default=10, ge=0, le=86400)
    """How long objects stay, unless their publisher says shorter. The current group of a live
    track always stays. 0: nothing else does."""

    max_size: Size = Quantity("256Mi")
    """Memory for all tracks of a relay process together; the oldest groups go first."""

    linger_seconds: int = Field(default=5, ge=0, le=3600)
    """How long a track stays subscribed upstream after its last subscriber left."""

    replay_current_group: bool = True
    """Give a new subscriber of a quiet track (a catalog that was sent once) its current group
    from the first object, even if it asked for later objects only. Players in the field depend
    on it; false is the draft to the letter."""


class Band(Model):
    """Objects of neighbouring priorities that share bandwidth. An object's priority is its
    publisher's, moved by as much as the subscriber's is away from 128."""

    lowest_priority: int = Field(ge=0, le=255)
    """The largest priority number in the band (0 is the most important)."""

    share: Percent
    """This part of the subscriber's rate, in percent, is kept for the band. What it leaves is
    for the others, the most important first."""


class Congestion(Model):
    """What one subscriber may have in flight, and who goes first when it is not enough."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.bands.map(b, b.lowestPriority).isSorted() && self.bands.all(b, "
            "self.bands.exists_one(c, c.lowestPriority == b.lowestPriority))",
            "bands are out of order; write them with rising lowestPriority",
        ),
        Check(
            "self.bands.exists(b, b.lowestPriority == 255)",
            "bands end before priority 255; write lowestPriority: 255 in the last one",
        ),
        Check(
            "self.bands.map(b, b.share).sum() == 100",
            "the shares of bands do not add up to 100; make it 100",
        ),
    )

    controller: Literal["Cubic", "Delay"] = "Cubic"
    """The congestion controller of every connection. Cubic (RFC 9438) fills the queues on the way
    until packets are lost, as most traffic does. Delay keeps them short, for live media, and
    behaves like Cubic while somebody else fills them."""

    bands: list[Band] = Field(
        default=[
            Band(lowest_priority=31, share=20),
            Band(lowest_priority=127, share=50),
            Band(lowest_priority=191, share=20),
            Band(lowest_priority=255, share=10),
        ],
        min_length=1,
        max_length=BANDS,
    )
    """Bands from the most to the least important; the last one ends at priority 255."""

    limit_by_path: bool = False
    """Drop the least important bands, group by group, while a subscriber's path does not carry
    everything. Otherwise what does not go at once waits, until it is too much or too old. For live
    media in bands of their own."""

    subscriber_rate: Size | None = None
    """Bytes a second that one subscriber is sent at most, for its bands to share. Streams and
    datagrams for which a band has nothing left are dropped, each as a whole. Unset: no limit but
    that of the network, and nothing is dropped for it."""

    burst_milliseconds: int = Field(default=500, ge=10, le=10000)
    """How much may be sent at once, as the time that it takes at the rate."""

    overflow: Percent = 10
    """How much of what a band takes of others is paid back, in percent of the burst at most."""

    @model_validator(mode="after")
    def _bands_cover_all(self) -> Self:
        ends = [band.lowest_priority for band in self.bands]
        if ends != sorted(set(ends)):
            raise bad("bands are out of order; write them with rising lowestPriority")
        if ends[-1] != 255:
            raise bad("bands end before priority 255; write lowestPriority: 255 in the last one")
        total = sum(band.share for band in self.bands)
        if total != 100:
            raise bad(f"the shares of bands add up to {total}; make it 100")
        return self


Mode = Literal["Auto", "Required", "Disabled"]


class FastPath(Model):
    """Forwarding in the kernel by eBPF. Turning it off changes latency and cost, nothing else."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.encryption != 'Disabled' || self.insecureLaboratory",
            "encryption: Disabled sends media in the clear; write encryption: Enabled, "
            "or in a laboratory insecureLaboratory: true",
        ),
    )

    mode: Mode = "Auto"
    """Auto uses the kernel where it can; Required makes a relay without it not ready; Disabled
    never does."""

    attach: Literal["Host", "Pod"] = "Host"
    """Which end of the pod's veth carries the programs. Pod is for networks with eBPF host
    routing (Cilium, Calico eBPF), whose packets pass by the host end."""

    max_members: int = Field(default=1024, ge=1, le=65536)
    """Subscribers of one track that the kernel serves; user space serves the rest."""

    encryption: Literal["Enabled", "Disabled"] = "Enabled"
    """Disabled is for the laboratory only: QUIC without encryption, between clients built for
    that. It needs insecureLaboratory: true."""

    insecure_laboratory: bool = False
    """Says aloud that everybody on the path can read and change the media."""

    @model_validator(mode="after")
    def _plaintext_is_deliberate(self) -> Self:
        if self.encryption == "Disabled" and not self.insecure_laboratory:
            raise bad(
                "encryption: Disabled sends media in the clear; write encryption: Enabled, "
                "or in a laboratory insecureLaboratory: true"
            )
        return self
