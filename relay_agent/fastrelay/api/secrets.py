"""Secret values: named by reference in a cluster, by file or inline elsewhere."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from fastrelay.api.model import Advice, Check, FilePath, Model, ObjectName, bad


class SecretKey(Model):
    """One key of a Secret in the relay's own namespace."""

    name: ObjectName
    """The Secret's name."""

    key: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$"),
        Advice("a key of the Secret's data, like token"),
    ] = "token"
    """The key within the Secret's data."""


class SecretValue(Model):
    """Exactly one of three places for a secret text."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "[has(self.secretKeyRef), has(self.file), has(self.value)].exists_one(x, x)",
            "needs exactly one of secretKeyRef, file and value; "
            "write secretKeyRef: {name: my-secret, key: token}",
        ),
    )
    cluster_checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.file)",
            "file is for relays outside Kubernetes; "
            "write secretKeyRef: {name: my-secret, key: token}",
        ),
    )

    secret_key_ref: SecretKey | None = None
    """A key of a Kubernetes Secret."""

    file: FilePath | None = None
    """A file that holds nothing else; space at its end is ignored. Read again when
    it changes."""

    value: Annotated[
        Annotated[str, Field(min_length=1, max_length=4096)] | None, Field(repr=False)
    ] = None
    """The text itself, for experiments: whoever reads the spec reads the secret."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = sum(x is not None for x in (self.secret_key_ref, self.file, self.value))
        if given != 1:
            raise bad(
                "needs exactly one of secretKeyRef, file and value; "
                "write secretKeyRef: {name: my-secret, key: token}"
            )
        return self
