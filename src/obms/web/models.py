"""The bodies of requests: strict, because what is in them gets signed."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from obms import domain

NAME_LIMIT, TEXT_LIMIT, URL_LIMIT, LIST_LIMIT = 500, 20_000, 2_000, 50
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
YEARS = range(1000, 9999)


def _storable(text: str) -> str:
    """Neither PostgreSQL nor a signature takes what is refused here."""
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be valid Unicode")
    return text


def _absolute(text: str) -> str:
    if not ABSOLUTE.fullmatch(text):
        raise ValueError("must be an absolute URL")
    return text


def _web(text: str) -> str:
    if not text.lower().startswith(("http://", "https://")):
        raise ValueError("must be an http(s) URL")
    return text


def _bounded(time: datetime) -> datetime:
    if time.year not in YEARS:
        raise ValueError(f"must be between the years {YEARS.start} and {YEARS.stop - 1}")
    return time.astimezone(UTC)


def _object(value: Any) -> Any:
    """A bare address stands for the object that has it as its id."""
    return {"id": value} if isinstance(value, str) else value


def _list(value: Any) -> Any:
    return value if isinstance(value, list) or value is None else [value]


Name = Annotated[str, Field(min_length=1, max_length=NAME_LIMIT), AfterValidator(_storable)]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_LIMIT), AfterValidator(_storable)]
Address = Annotated[
    str, Field(min_length=1, max_length=URL_LIMIT), AfterValidator(_storable), AfterValidator(_absolute)
]
WebAddress = Annotated[Address, AfterValidator(_web)]
Time = Annotated[AwareDatetime, AfterValidator(_bounded)]


class Body(BaseModel):
    """A member that is not known here is refused: dropping it would sign less than was sent."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    context: Any = Field(None, alias="@context", exclude=True)
    type: Any = Field(None, exclude=True)


class ImageBody(Body):
    id: Address
    caption: Text | None = None

    def to_domain(self) -> domain.Image:
        return domain.Image(url=self.id, caption=self.caption)


Picture = Annotated[ImageBody, BeforeValidator(_object)]


def picture(body: ImageBody | None) -> domain.Image | None:
    return body.to_domain() if body else None


class IssuerBody(Body):
    """A new issuer."""

    name: Name
    url: WebAddress
    email: Annotated[Name, Field(pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    description: Text | None = None
    image: Picture | None = None

    def to_domain(self, id: str, now: datetime) -> domain.Issuer:
        return domain.Issuer(
            id=id,
            name=self.name,
            url=self.url,
            email=self.email,
            description=self.description,
            image=picture(self.image),
            created_at=now,
            updated_at=now,
        )


class CriteriaBody(Body):
    id: Address | None = None
    narrative: Text | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "CriteriaBody":
        if not (self.id or self.narrative):
            raise ValueError("must have an id or a narrative")
        return self


class AlignmentBody(Body):
    target_name: Name = Field(alias="targetName")
    target_url: Address = Field(alias="targetUrl")
    target_framework: Name | None = Field(None, alias="targetFramework")
    target_code: Name | None = Field(None, alias="targetCode")
    target_description: Text | None = Field(None, alias="targetDescription")


class AchievementBody(Body):
    """A new achievement."""

    name: Name
    description: Text
    criteria: Annotated[CriteriaBody, BeforeValidator(_object)]
    issuer: Name
    image: Picture | None = None
    tags: Annotated[list[Name], Field(max_length=LIST_LIMIT)] = []
    alignment: Annotated[list[AlignmentBody], Field(max_length=LIST_LIMIT), BeforeValidator(_list)] = []
    version: Name | None = None
    achievement_type: str | None = Field(
        None, alias="achievementType", pattern=r"^([A-Z][A-Za-z]{1,60}|ext:[a-zA-Z0-9._-]{1,100})$"
    )

    def to_domain(self, id: str, issuer_id: str, now: datetime) -> domain.Achievement:
        alignments = (alignment.model_dump(exclude_none=True) for alignment in self.alignment)
        return domain.Achievement(
            id=id,
            issuer_id=issuer_id,
            name=self.name,
            description=self.description,
            criteria=domain.Criteria(url=self.criteria.id, narrative=self.criteria.narrative),
            achievement_type=self.achievement_type,
            image=picture(self.image),
            tags=tuple(dict.fromkeys(self.tags)),
            alignments=tuple(domain.Alignment(**alignment) for alignment in alignments),
            version=self.version,
            created_at=now,
            updated_at=now,
        )


class RecipientBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["email", "url", "telephone", "id"]
    identity: Name
    hashed: bool = True
    salt: Name | None = None

    def to_domain(self) -> domain.Recipient:
        return domain.Recipient(**self.model_dump())


class EvidenceBody(Body):
    id: Address | None = None
    narrative: Text | None = None
    name: Name | None = None
    description: Text | None = None
    genre: Name | None = None
    audience: Name | None = None

    def to_domain(self) -> domain.Evidence:
        return domain.Evidence(url=self.id, **self.model_dump(exclude={"id"}))


Proofs = Annotated[list[Annotated[EvidenceBody, BeforeValidator(_object)]], Field(max_length=LIST_LIMIT)]


class CredentialBody(Body):
    """A credential to be issued."""

    recipient: RecipientBody
    badge: Name
    issued_on: Time = Field(alias="issuedOn")
    expires: Time | None = None
    evidence: Annotated[Proofs, BeforeValidator(_list)] = []
    narrative: Text | None = None
    image: Picture | None = None
    proof: domain.ProofKind = "data-integrity"
    alg: domain.JoseName | None = None

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "CredentialBody":
        if self.expires is not None and self.expires <= self.issued_on:
            raise ValueError("expires must be later than issuedOn")
        return self


class ReasonBody(BaseModel):
    """Why a credential is revoked or suspended."""

    model_config = ConfigDict(extra="forbid")

    reason: Text | None = None
