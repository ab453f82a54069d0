"""The two forms in which everything is told: Open Badges 2.0 under /v2, 3.0 elsewhere."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Protocol

import sqlalchemy as sa
from fastapi import Depends, Request

from obms.badges import Site, credentials, keys, profiles
from obms.domain import Achievement, Issuer, Related
from obms.errors import CredentialDamaged, Gone
from obms.observe import logger
from obms.specs import Json, achievement_url, credential_url, issuer_url, ob2, ob2_signed, ob3

# What is told of a related achievement.
TOLD = ("name", "description", "criteria", "image")


class Form(Protocol):
    """How a standard tells of what is kept."""

    def issuers(self, connection: sa.Connection, found: Iterable[Issuer]) -> list[Json]: ...
    def achievement(self, achievement: Achievement) -> Json: ...
    def related(self, connection: sa.Connection, related: Iterable[Related]) -> list[Json]: ...
    def credentials(self, connection: sa.Connection, kept: Iterable[credentials.Kept]) -> list[Json]: ...
    def gone(self, id: str, reason: str | None) -> Gone: ...
    def issuer_url(self, id: str) -> str: ...
    def achievement_url(self, id: str) -> str: ...
    def credential_url(self, id: str) -> str: ...

    @property
    def signs(self) -> bool:
        """Whether a credential is told in the very document that was signed."""


def _with_ours(
    connection: sa.Connection, told: dict[str, Json], tell: Callable[[Achievement], Json]
) -> list[Json]:
    """Each with what is known of it where it is one of ours."""
    ours = profiles.find_achievements(connection, told)
    known = {id: tell(achievement) for id, achievement in ours.items()}
    return [
        {name: known[id][name] for name in TOLD if name in known.get(id, {})} | entry
        for id, entry in told.items()
    ]


@dataclass(frozen=True, slots=True)
class Form2:
    """Open Badges 2.0: hosted, made anew from the rows each time."""

    site: Site

    @property
    def signs(self) -> bool:
        return False

    def issuers(self, connection: sa.Connection, found: Iterable[Issuer]) -> list[Json]:
        issuers = list(found)
        held = keys.ids_in_use(connection, [issuer.id for issuer in issuers], keys.RSA)
        return [self._issuer(issuer, held.get(issuer.id)) for issuer in issuers]

    def _issuer(self, issuer: Issuer, key_id: str | None) -> Json:
        """With the key that its badges are signed by, unless it told of one of its own."""
        members = ob2_signed.issuer_members(issuer.id, key_id, self.site.base_url)
        return members | ob2.issuer_profile(issuer, self.site.base_url)

    def achievement(self, achievement: Achievement) -> Json:
        return ob2.badge_class(achievement, self.site.base_url)

    def related(self, connection: sa.Connection, related: Iterable[Related]) -> list[Json]:
        told = {each.id: ob2.related_object(each, self.site.base_url) for each in related}
        return _with_ours(connection, told, self.achievement)

    def credentials(self, connection: sa.Connection, kept: Iterable[credentials.Kept]) -> list[Json]:
        found = credentials.read_all(connection, list(kept))
        return [ob2.assertion(credential, self.site.base_url) for credential in found]

    def gone(self, id: str, reason: str | None) -> Gone:
        """With the body that 2.0 asks for at the id of a revoked assertion."""
        document = ob2.revoked_assertion(id, reason, self.site.base_url)
        return Gone(id=id, reason=reason, code="ASSERTION_REVOKED", document=document)

    def issuer_url(self, id: str) -> str:
        return ob2.issuer_id(self.site.base_url, id)

    def achievement_url(self, id: str) -> str:
        return ob2.badge_class_id(self.site.base_url, id)

    def credential_url(self, id: str) -> str:
        return ob2.assertion_id(self.site.base_url, id)


@dataclass(frozen=True, slots=True)
class Form3:
    """Open Badges 3.0: credentials as they were signed."""

    site: Site

    @property
    def signs(self) -> bool:
        return True

    def issuers(self, connection: sa.Connection, found: Iterable[Issuer]) -> list[Json]:
        return [ob3.issuer_resource(issuer, self.site.base_url) for issuer in found]

    def achievement(self, achievement: Achievement) -> Json:
        return ob3.achievement_resource(achievement, self.site.base_url)

    def related(self, connection: sa.Connection, related: Iterable[Related]) -> list[Json]:
        told = {each.id: ob3.related_object(each, self.site.base_url) for each in related}
        return _with_ours(connection, told, self.achievement)

    def credentials(self, connection: sa.Connection, kept: Iterable[credentials.Kept]) -> list[Json]:
        return [_as_signed(each, self.credential_url(each.id)) for each in kept]

    def gone(self, id: str, reason: str | None) -> Gone:
        return Gone(id=id, reason=reason)

    def issuer_url(self, id: str) -> str:
        return issuer_url(self.site.base_url, id)

    def achievement_url(self, id: str) -> str:
        return achievement_url(self.site.base_url, id)

    def credential_url(self, id: str) -> str:
        return credential_url(self.site.base_url, id)


def _as_signed(kept: credentials.Kept, url: str) -> Json:
    """The credential. One that is damaged is told of in its place, so that the others are not lost too."""
    try:
        return credentials.read_document(kept)
    except CredentialDamaged as error:
        logger().error("a credential is damaged", id=kept.id, hint=error.hint)
        return {"id": url, "error": str(error)}


def form_of(request: Request) -> Form:
    """The form that the path asks for."""
    site: Site = request.app.state.server.site
    path = str(request.scope["path"]).removeprefix(request.scope.get("root_path", ""))
    return Form2(site) if path.startswith("/v2/") else Form3(site)


TheForm = Annotated[Form, Depends(form_of)]
