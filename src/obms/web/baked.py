"""Baked badges: a picture of the achievement with the signed credential in it."""

import hashlib
import json
from typing import Annotated, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response

from obms.badges import baking, credentials, drawing, images
from obms.badges.baking import Badge
from obms.badges.images import EXTENSIONS, PNG, SVG, Picture
from obms.server import Server
from obms.specs import ob2
from obms.web.answers import GONE, PICTURES, UNCHANGED
from obms.web.assets import picture_answer
from obms.web.context import TheServer, read_id, reading
from obms.web.credentials import find_standing
from obms.web.forms import Form2, Form3

router = APIRouter(tags=["credentials"])
router2 = APIRouter(tags=["Open Badges 2.0"])
# It is asked each time whether the badge was revoked meanwhile.
CACHING = "public, no-cache"
FORMS = {"png": PNG, "svg": SVG}
Form = Annotated[
    Literal["png", "svg"] | None, Query(description="Else what the picture of the achievement is.")
]


@router.get(
    "/credentials/{credential_id}/image", response_class=Response, responses=PICTURES | UNCHANGED | GONE
)
def read_baked_credential(
    credential_id: str,
    request: Request,
    server: TheServer,
    format: Form = None,  # noqa: A002
) -> Response:
    """The badge as a picture to pass on; 410 once it is revoked."""
    with reading(server) as connection:
        kept = find_standing(connection, read_id("credential", credential_id), Form3(server.site))
        picture = _picture(connection, server, kept, format)
    return _answer(request, picture, Badge(version="3.0", text=kept.document), kept.id)


@router2.get(
    "/assertions/{credential_id}/image", response_class=Response, responses=PICTURES | UNCHANGED | GONE
)
@router2.get(
    "/credentials/{credential_id}/image", response_class=Response, responses=PICTURES | UNCHANGED | GONE
)
def read_baked_assertion(
    credential_id: str,
    request: Request,
    server: TheServer,
    format: Form = None,  # noqa: A002
) -> Response:
    """The hosted assertion as a picture to pass on; 410 once it is revoked."""
    id, site_url = read_id("assertion", credential_id), server.site.base_url
    with reading(server) as connection:
        kept = find_standing(connection, id, Form2(server.site))
        document = ob2.assertion(credentials.read(connection, kept), site_url)
        picture = _picture(connection, server, kept, format)
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return _answer(request, picture, Badge(version="2.0", text=text, url=str(document["id"])), kept.id)


def _picture(connection: sa.Connection, server: Server, kept: credentials.Kept, form: str | None) -> Picture:
    """The credential's own picture, else the achievement's, else one that is drawn."""
    credential = credentials.read(connection, kept)
    urls = [image.url for image in (credential.image, credential.achievement.image) if image]
    found = (images.find_by_url(connection, server.site, url) for url in urls)
    picture = next((each for each in found if each is not None), None)
    own = SVG if picture is not None and picture.media_type == SVG else PNG
    return drawing.in_form(picture, FORMS.get(form or "", own), credential.achievement.name)


def _answer(request: Request, picture: Picture, badge: Badge, id: str) -> Response:
    content = baking.bake(picture, badge)
    return picture_answer(
        request,
        content,
        picture.media_type,
        tag=hashlib.sha256(content).hexdigest()[:32],
        caching=CACHING,
        name=f"badge-{id}.{EXTENSIONS[picture.media_type]}",
    )
