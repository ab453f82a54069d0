"""Verifying anybody's badge: taken out of whatever it comes in, and judged check by check."""

from datetime import datetime

from obms.badges import baking, foreign_ob2, foreign_ob3, images
from obms.badges.fetching import GONE, Visit
from obms.badges.inquiry import FORMAT, Exhibit, Report, Revoked
from obms.badges.reading import Unreadable, is_token, listed, read_object, read_token
from obms.specs import Json, ob2

VERIFIABLE = "VerifiableCredential"
ASSERTION = "Assertion"
WEB = ("https://", "http://")


def judge(content: bytes, visit: Visit, now: datetime, recipient: str | None = None) -> Report:
    """Every check on a badge in any form: JSON, compact token, picture, `data:` URL or web address.

    Whatever is sent, it gives a report: what cannot be read is a check that fails.
    """
    report = Report(visit=visit, now=now, recipient=recipient)

    def take() -> str:
        report.exhibit = read(content, visit)
        return f"Open Badges {report.exhibit.version}, {report.exhibit.form}"

    if report.attempt(FORMAT, take) and report.exhibit is not None:
        examine = foreign_ob3.examine if report.exhibit.version == "3.0" else foreign_ob2.examine
        examine(report.exhibit, report)
    return report


def read(content: bytes, visit: Visit, *, fetched: bool = False) -> Exhibit:
    """The badge in what was sent; Unreadable, NotBaked or NotFetched say why there is none."""
    if images.sniff(content) is not None:
        badge = baking.unbake(content)
        return _read_text(badge.text, visit, "baked", fetched=fetched)
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise Unreadable("it is neither a picture nor text") from error
    return _read_text(text, visit, "", fetched=fetched)


def _read_text(text: str, visit: Visit, form: str, *, fetched: bool) -> Exhibit:
    if text.startswith("{"):
        document = read_object(text)
        return Exhibit(version=_version(document), form=f"JSON {form}".strip(), document=document, text=text)
    if is_token(text):
        _header, document = read_token(text)
        form = f"a token {form}".strip()
        return Exhibit(
            version=_version(document, document.get("vc")),
            form=form,
            document=document,
            text=text,
            token=text,
        )
    if fetched:
        raise Unreadable("there is no badge at that address")
    if text.startswith("data:"):
        return read(images.read_data_url(text), visit, fetched=True)
    if text.startswith(WEB):
        found = visit.fetch(text)
        if found.status == GONE:
            raise Revoked(f"{text[:200]} says that it is gone")
        return read(found.content, visit, fetched=True)
    raise Unreadable("it is no badge: neither JSON, a token, a PNG, an SVG nor a web address")


def _version(document: Json, inside: object = None) -> baking.Version:
    """By data model 1.1 the credential stands inside of the payload of a token."""
    types = listed(document.get("type"))
    if VERIFIABLE in types or (isinstance(inside, dict) and VERIFIABLE in listed(inside.get("type"))):
        return "3.0"
    if ASSERTION in types or document.get("@context") == ob2.CONTEXT:
        return "2.0"
    raise Unreadable("it is neither a credential of Open Badges 3.0 nor an assertion of 2.0")
