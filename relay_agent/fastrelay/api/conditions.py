"""Conditions of a `MoQRelay`: their types, their reasons, and what each means.

They follow the Kubernetes API conventions: a map by type, all present from the first
sight on (status Unknown at worst), a CamelCase reason, and a transition time that
moves only when the status flips.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from fastrelay.api.model import Model

Status = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """What can be said about a relay, each with True as the good answer except Degraded."""

    READY = "Ready"
    ACCEPTED = "Accepted"
    RELAY_AVAILABLE = "RelayAvailable"
    DATA_PATH_ATTACHED = "DataPathAttached"
    DEGRADED = "Degraded"


@dataclass(frozen=True, slots=True)
class Reason:
    """One documented reason: what happened and what a person should do."""

    type: ConditionType
    name: str
    status: Status
    meaning: str
    action: str = "Nothing."


PLAINTEXT_WARNING = "Media travel unencrypted (fastPath.encryption: Disabled)."
"""Said wherever a relay says anything of itself."""

_READY, _ACCEPTED, _AVAILABLE, _ATTACHED, _DEGRADED = ConditionType

REASONS: tuple[Reason, ...] = (
    Reason(_READY, "Serving", "True", "The relay is accepted, and pods serve."),
    Reason(_READY, "ScaledToZero", "True", "No pods are wanted, and none run."),
    Reason(
        _READY,
        "NotAccepted",
        "False",
        "The spec cannot be carried out.",
        "Read the message of the condition Accepted.",
    ),
    Reason(
        _READY,
        "NotAvailable",
        "False",
        "No pod serves.",
        "Read the message of the condition RelayAvailable.",
    ),
    Reason(
        _READY,
        "FastPathRequired",
        "False",
        "fastPath.mode is Required and the kernel does not forward on every node.",
        "Read the message of the condition DataPathAttached.",
    ),
    Reason(_READY, "Pending", "Unknown", "It is too early to tell.", "Wait a few seconds."),
    Reason(_ACCEPTED, "Valid", "True", "The spec is complete and its references exist."),
    Reason(
        _ACCEPTED,
        "Invalid",
        "False",
        "A field contradicts another one.",
        "Write what the message says.",
    ),
    Reason(
        _ACCEPTED,
        "CertificateMissing",
        "False",
        "The Secret with the certificate does not exist or lacks tls.crt or tls.key.",
        "Create it: kubectl create secret tls NAME --cert FILE --key FILE.",
    ),
    Reason(
        _ACCEPTED,
        "SecretMissing",
        "False",
        "A Secret with a token does not exist or lacks the key.",
        "Create it, or correct the reference.",
    ),
    Reason(
        _ACCEPTED,
        "UpstreamMissing",
        "False",
        "A MoQRelay named under upstreams does not exist.",
        "Create it, or correct the name.",
    ),
    Reason(
        _ACCEPTED,
        "UpstreamLoop",
        "False",
        "Relays name each other as upstreams in a circle.",
        "Remove one of the upstreams that the message lists.",
    ),
    Reason(
        _ACCEPTED,
        "PlaintextRefused",
        "False",
        "encryption: Disabled is not permitted by this operator.",
        "Write fastPath.encryption: Enabled.",
    ),
    Reason(
        _ACCEPTED,
        "CertManagerMissing",
        "False",
        "tls.issuer is set, but the cluster has no cert-manager.",
        "Install cert-manager, or remove tls.issuer and create the Secret.",
    ),
    Reason(
        _ACCEPTED,
        "NameTaken",
        "False",
        "An object that the relay needs exists already and belongs to somebody else.",
        "Rename the MoQRelay, or that object, which the message names.",
    ),
    Reason(
        _ACCEPTED,
        "Rejected",
        "False",
        "The API server refuses an object that the relay needs.",
        "The message has its words: a quota, a policy, or a value that it does not like.",
    ),
    Reason(_ACCEPTED, "Pending", "Unknown", "The operator has not yet looked.", "Wait a second."),
    Reason(_AVAILABLE, "PodsReady", "True", "As many pods serve as are wanted."),
    Reason(_AVAILABLE, "ScaledToZero", "True", "No pods are wanted, and none run."),
    Reason(
        _AVAILABLE,
        "PodsNotReady",
        "False",
        "Fewer pods serve than are wanted.",
        "kubectl describe the pods that the message names.",
    ),
    Reason(_AVAILABLE, "Pending", "Unknown", "No pod has been seen yet.", "Wait a few seconds."),
    Reason(_ATTACHED, "Attached", "True", "The kernel forwards for every pod."),
    Reason(
        _ATTACHED,
        "PartlyAttached",
        "False",
        "Some nodes have no programs; user space forwards there.",
        "The message names node and error; docs/operations.md explains each.",
    ),
    Reason(
        _ATTACHED,
        "NoAgent",
        "False",
        "No node agent reports for the nodes of this relay.",
        "Check the agent's DaemonSet and its node selector.",
    ),
    Reason(
        _ATTACHED,
        "AgentSilent",
        "Unknown",
        "The agent of a node has not reported for minutes; programs forward without it.",
        "Look at the agent's pod on the node that the message names.",
    ),
    Reason(_ATTACHED, "Disabled", "False", "fastPath.mode is Disabled."),
    Reason(_ATTACHED, "Pending", "Unknown", "No agent has reported yet.", "Wait a few seconds."),
    Reason(_DEGRADED, "AsExpected", "False", "Nothing is wrong."),
    Reason(
        _DEGRADED,
        "UpstreamUnreachable",
        "True",
        "An upstream does not answer.",
        "Check its address, its certificate and the network policy.",
    ),
    Reason(
        _DEGRADED,
        "CertificateExpiring",
        "True",
        "The certificate ends within a week.",
        "Renew the Secret; relays use it without a restart.",
    ),
    Reason(
        _DEGRADED,
        "Plaintext",
        "True",
        PLAINTEXT_WARNING,
        "Only in a laboratory; otherwise write encryption: Enabled.",
    ),
    Reason(
        _DEGRADED,
        "Overloaded",
        "True",
        "A relay refuses sessions or drops subscribers because a limit is reached.",
        "More replicas or higher spec.limits.",
    ),
    Reason(_DEGRADED, "Pending", "Unknown", "The operator has not yet looked.", "Wait a second."),
)
"""Every reason the operator may give, in the order in which `explain` prints them."""


class Condition(Model):
    """One statement about the relay, as in metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """What the statement is about."""

    status: Status
    """Whether it holds."""

    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """Why, as one word for programs."""

    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, in words."""

    last_transition_time: Annotated[str, Field(max_length=64)]
    """When the status last changed (RFC 3339)."""

    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The metadata.generation that was looked at."""
