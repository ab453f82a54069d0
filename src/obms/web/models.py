"""The bodies of requests: strict, because what is in them gets signed; names of both standards are read."""

import re
import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    model_validator,
)

from obms import domain
from obms.badges.building import build
from obms.specs import ob3
from obms.web.parts import (
    LIST_LIMIT,
    Address,
    Body,
    Email,
    Language,
    Name,
    Picture,
    Text,
    Time,
    Token,
    WebAddress,
    as_id,
    as_list,
    as_object,
    picture,
    sound,
)

# By any form of its id, or as an object that has it.
Reference = Annotated[Name, BeforeValidator(as_id, json_schema_input_type=Name | dict[str, Any])]
HASHED = re.compile(r"sha256\$[0-9a-fA-F]{64}")
Few = Field(max_length=LIST_LIMIT)


class KeyBody(Body):
    """A CryptographicKey of 2.0."""

    id: Address
    owner: Address | None = None
    public_key_pem: Text | None = Field(None, alias="publicKeyPem")

    def as_sent(self) -> object:
        """An address, or an object that says more."""
        found = self.model_dump(by_alias=True, exclude_none=True)
        return self.id if len(found) == 1 else {"type": "CryptographicKey", **found}


PublicKey = Annotated[KeyBody, BeforeValidator(as_object, json_schema_input_type=Address | KeyBody)]


class IssuerBody(Body):
    """An issuer, whole."""

    id: Any = Field(None, exclude=True)
    name: Name
    url: WebAddress
    email: Email | None = None
    description: Text | None = None
    image: Picture | None = None
    public_key: PublicKey | None = Field(None, alias="publicKey")
    revocation_list: Any = Field(None, alias="revocationList", exclude=True)

    def to_domain(self, id: str, now: datetime) -> domain.Issuer:
        return domain.Issuer(
            id=id,
            name=self.name,
            url=self.url,
            email=self.email,
            description=self.description,
            image=picture(self.image),
            extra={"public_key": self.public_key.as_sent()} if self.public_key else {},
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


Criteria = Annotated[CriteriaBody, BeforeValidator(as_object, json_schema_input_type=Address | CriteriaBody)]


class AlignmentBody(Body):
    target_name: Name = Field(alias="targetName")
    target_url: Address = Field(alias="targetUrl")
    target_framework: Name | None = Field(None, alias="targetFramework")
    target_code: Name | None = Field(None, alias="targetCode")
    target_description: Text | None = Field(None, alias="targetDescription")


Alignments = Annotated[list[AlignmentBody], Few, BeforeValidator(as_list)]
ALIGNMENTS = AliasChoices("alignment", "alignments")


class LevelBody(Body):
    id: Address
    name: Name
    level: Name | None = None
    description: Text | None = None
    points: Name | None = None
    alignments: Alignments = Field([], validation_alias=ALIGNMENTS)


class ResultDescriptionBody(Body):
    """A result that an achievement may have; without an id it is given one."""

    id: Address = Field(default_factory=lambda: f"urn:uuid:{uuid.uuid4()}")
    name: Name
    result_type: str = Field(alias="resultType", pattern=rf"^({ob3.RESULT_TYPES}|{ob3.EXTENSION})$")
    allowed_values: Annotated[list[Name], Few] = Field([], alias="allowedValue")
    required_level: Address | None = Field(None, alias="requiredLevel")
    required_value: Name | None = Field(None, alias="requiredValue")
    levels: Annotated[list[LevelBody], Few] = Field([], alias="rubricCriterionLevel")
    value_min: Name | None = Field(None, alias="valueMin")
    value_max: Name | None = Field(None, alias="valueMax")
    alignments: Alignments = Field([], validation_alias=ALIGNMENTS)


class RelatedBody(Body):
    """Another achievement: one of ours by any form of its id, or another's by its URL."""

    id: Name
    in_language: Language | None = Field(None, validation_alias=AliasChoices("inLanguage", "@language"))
    version: Name | None = None


class EndorsedBody(Body):
    """What an endorsement is about, and what it says."""

    model_config = ConfigDict(extra="allow")

    id: Name
    endorsement_comment: Text | None = Field(None, alias="endorsementComment")


class EndorsementBody(Body):
    """An EndorsementCredential: somebody else's word, kept as it was sent."""

    model_config = ConfigDict(extra="allow")

    context: Annotated[list[Any], Field(min_length=1), BeforeValidator(as_list)] = Field(alias="@context")
    id: Name
    type: Annotated[list[Name], Few, BeforeValidator(as_list)]
    name: Name | None = None
    issuer: Name | dict[str, Any]
    valid_from: Time = Field(validation_alias=AliasChoices("validFrom", "issuanceDate"))
    credential_subject: EndorsedBody = Field(alias="credentialSubject")
    proof: dict[str, Any] | list[dict[str, Any]] | None = None
    _sent: dict[str, Any]

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, value: Any, handler: ModelWrapValidatorHandler["EndorsementBody"]) -> "EndorsementBody":
        made = handler(sound(value))
        made._sent = value  # noqa: SLF001 - its own
        return made

    @model_validator(mode="after")
    def _is_one(self) -> "EndorsementBody":
        if "EndorsementCredential" not in self.type:
            raise ValueError("type must name EndorsementCredential")
        if self.proof and not self.name:
            raise ValueError("one that is signed must have a name, as 3.0 asks")
        return self

    @property
    def sent(self) -> dict[str, Any]:
        return self._sent


class AchievementBody(Body):
    """An achievement, whole; of the last four, what is not told stays when one is changed."""

    id: Any = Field(None, exclude=True)
    name: Name
    description: Text
    criteria: Criteria
    issuer: Reference
    creator: Any = Field(None, exclude=True)
    image: Picture | None = None
    tags: Annotated[list[Name], Few] = Field([], validation_alias=AliasChoices("tags", "tag"))
    alignment: Alignments = Field([], validation_alias=ALIGNMENTS)
    version: Name | None = None
    previous_version: Name | None = Field(None, alias="previousVersion")
    achievement_type: str | None = Field(
        None, alias="achievementType", pattern=rf"^({ob3.ACHIEVEMENT_TYPES}|{ob3.EXTENSION})$"
    )
    related: Annotated[list[RelatedBody], Few, BeforeValidator(as_list)] | None = None
    result_descriptions: Annotated[list[ResultDescriptionBody], Few, BeforeValidator(as_list)] | None = Field(
        None, alias="resultDescription"
    )
    endorsement: Annotated[list[EndorsementBody], Few, BeforeValidator(as_list)] | None = None
    endorsement_jwt: Annotated[list[Token], Few, BeforeValidator(as_list)] | None = Field(
        None, alias="endorsementJwt"
    )

    @model_validator(mode="before")
    @classmethod
    def _made_by(cls, value: Any) -> Any:
        """3.0 calls the issuer of an achievement its creator."""
        if isinstance(value, dict) and "issuer" not in value and "creator" in value:
            return {**value, "issuer": value["creator"]}
        return value


class RecipientBody(Body):
    type: Literal["email", "url", "telephone", "id"]
    identity: Name
    hashed: bool = True
    salt: Name | None = None

    @model_validator(mode="after")
    def _is_what_it_says(self) -> "RecipientBody":
        is_hash = self.identity.startswith("sha256$")
        if is_hash and not (self.hashed and HASHED.fullmatch(self.identity)):
            raise ValueError("an identity that begins with sha256$ must be hashed, and have 64 digits")
        return self

    def to_domain(self) -> domain.Recipient:
        return domain.Recipient(type=self.type, identity=self.identity, hashed=self.hashed, salt=self.salt)


class EvidenceBody(Body):
    id: Address | None = None
    narrative: Text | None = None
    name: Name | None = None
    description: Text | None = None
    genre: Name | None = None
    audience: Name | None = None

    def to_domain(self) -> domain.Evidence:
        return domain.Evidence(url=self.id, **self.model_dump(exclude={"id"}))


class ResultBody(Body):
    """What the recipient reached; `resultDescription` is the id of one of the achievement's."""

    result_description: Address | None = Field(None, alias="resultDescription")
    value: Name | None = None
    status: str | None = Field(None, pattern=rf"^({ob3.RESULT_STATUSES})$")
    achieved_level: Address | None = Field(None, alias="achievedLevel")
    alignments: Alignments = Field([], validation_alias=ALIGNMENTS)


Proofs = Annotated[list[Annotated[EvidenceBody, BeforeValidator(as_object)]], Few]


class CredentialBody(Body):
    """A credential to be issued; when one is changed, `results` that are not told stay."""

    id: Any = Field(None, exclude=True)
    recipient: RecipientBody
    badge: Reference = Field(validation_alias=AliasChoices("badge", "achievement"))
    issued_on: Time = Field(validation_alias=AliasChoices("issuedOn", "validFrom"))
    expires: Time | None = Field(None, validation_alias=AliasChoices("expires", "validUntil"))
    evidence: Annotated[Proofs, BeforeValidator(as_list)] = Field([])
    narrative: Text | None = None
    image: Picture | None = None
    results: Annotated[list[ResultBody], Few, BeforeValidator(as_list)] | None = Field(
        None, validation_alias=AliasChoices("results", "result")
    )
    verification: Any = Field(None, exclude=True)
    proof: domain.ProofKind | None = None
    alg: domain.JoseName | None = None

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "CredentialBody":
        if self.expires is not None and self.expires <= self.issued_on:
            raise ValueError("expires must be later than issuedOn")
        return self

    def results_to_domain(self) -> tuple[domain.Result, ...]:
        return build(domain.Result, (result.model_dump() for result in self.results or ()))


class ReasonBody(Body):
    """Why a credential is revoked or suspended."""

    reason: Text | None = None
