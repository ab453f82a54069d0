"""Tests of a running server, over HTTP only: what a verifier of badges needs of it, asked as a stranger.

Nothing that the server says of itself is taken for granted: signatures are checked here, with the keys that
it publishes, and the bits of its signed status lists are compared with what it answers.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from obms.backup.manifest import Check
from obms.looking import deployed_badges
from obms.looking.logs import SHOWN as LINES_SHOWN
from obms.looking.logs import Log
from obms.looking.outside import Unfit
from obms.looking.visit import Step, Visit, checked, take

FEW, PAGE = 5, 100
LISTS = ("issuers", "achievements")
REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def examine(visit: Visit) -> list[Check]:
    """All checks; only the first of HTTP where the server has no database to answer from."""
    checks = [take("health", _health, visit)]
    if checks[0].ok:
        checks += [take(name, step, visit) for name, step in STEPS.items()]
    answers = visit.outside
    return [*checks, checked("no error of the server", answers.broken, f"{answers.asked} answers")]


def judge_log(log: Log) -> Check:
    told = [f"{log.errors} of its lines tell of errors", *log.first] if log.errors else []
    return checked("log", told, f"{log.lines} lines, none of an error", 1 + LINES_SHOWN)


def _health(visit: Visit) -> Check:
    answer = visit.outside.get("/health")
    health = answer.json()
    database = health["database"]
    ok = answer.status_code == HTTPStatus.OK and database["connected"] is True
    said = f"/health answers {answer.status_code} {health['status']}, version {health['version']}"
    told = f"{said}, {database['type']} {database.get('error', '')}".rstrip()
    return Check(name="health", ok=ok, detail=told)


def _lists_answer(visit: Visit) -> Check:
    complaints, lengths = [], []
    for name in LISTS:
        answer = visit.outside.get(f"/{name}?limit={PAGE}")
        total, wanted = answer.headers.get("X-Total-Count"), visit.sample.rows.get(name)
        lengths.append(f"{total} {name}")
        if answer.status_code != HTTPStatus.OK or total is None:
            complaints.append(f"/{name} answers {answer.status_code} with a total of {total}")
        elif wanted is not None and int(total) != wanted:
            complaints.append(f"/{name} has {total}, and {visit.sample.source} {wanted}")
        elif len(answer.json()) != min(int(total), PAGE):
            complaints.append(f"/{name} shows {len(answer.json())} of {total}")
    return checked("lists answer", complaints, ", ".join(lengths))


def _each_answers(visit: Visit) -> Check:
    """A few of each list, as Open Badges 3.0 and 2.0 write them."""
    complaints, read = [], 0
    for name in LISTS:
        for document in _listed(visit, name)[:FEW]:
            id = _bare(document["id"])
            for prefix in ("", "/v3", "/v2"):
                found = visit.outside.read(f"{prefix}/{name}/{id}")
                read += 1
                if found.get("name") != document.get("name"):
                    complaints.append(f"{prefix}/{name}/{id} is another than its list shows")
    return checked("each answers", complaints, f"{read} documents")


def _listed(visit: Visit, name: str) -> list[Any]:
    found = visit.outside.read(f"/{name}?limit={PAGE}")
    if not isinstance(found, list):
        raise Unfit(f"/{name} answers no list")
    return found


def _bare(id: object) -> str:
    """The UUID at the end of a URL, a `urn:uuid:` or a did:web."""
    return str(id).replace("/", ":").rpartition(":")[2]


def _keys_are_published(visit: Visit) -> Check:
    """Every key, retired ones too, in all three places where verifiers look for it."""
    outside = visit.outside
    ids = {str(key["id"]) for key in outside.read("/public-keys")}
    kids = {str(key.get("kid")) for key in outside.document("/.well-known/jwks.json")["keys"]}  # type: ignore[attr-defined]
    complaints = [f"jwks.json lacks {id}" for id in sorted(ids - kids)]
    complaints += [f"jwks.json has {kid}, and /public-keys has not" for kid in sorted(kids - ids)]
    fragments = {_fragment(id) for id in ids}
    lacking = fragments - set(_fragments(visit, "/.well-known/did.json"))
    complaints += [f"the did:web document of the server lacks {one}" for one in sorted(lacking)]
    named = [_bare(issuer["id"]) for issuer in _listed(visit, "issuers")]
    for issuer in named:
        wanted = {_fragment(id) for id in ids if f":issuers:{issuer}#" in id}
        missing = wanted - set(_fragments(visit, f"/issuers/{issuer}/did.json"))
        complaints += [f"the did:web document of issuer {issuer} lacks {one}" for one in sorted(missing)]
    return checked("keys are published", complaints, f"{len(ids)} keys of {len(named)} issuers")


def _fragments(visit: Visit, path: str) -> Iterator[str]:
    for method in visit.outside.document(path)["verificationMethod"]:  # type: ignore[attr-defined]
        yield _fragment(str(method["id"]))


def _fragment(id: str) -> str:
    return id.rpartition("#")[2]


def _describes_itself(visit: Visit) -> Check:
    """OpenAPI answers, and what it says is so: what needs a key is closed to strangers, the rest answers."""
    paths = visit.outside.document("/openapi.json")["paths"]
    complaints, closed, opened = [], 0, 0
    for path, methods in paths.items():  # type: ignore[attr-defined]
        if "get" not in methods or "{" in path or path.startswith("/health"):
            continue
        status = visit.outside.get(path).status_code
        if "security" not in methods["get"]:
            opened += 1
        elif status in REFUSALS:
            closed += 1
        else:
            complaints.append(f"{path} needs a key, and answers a stranger {status}")
    figures = f"{len(paths)} routes; of those asked {opened} are open and {closed} closed"  # type: ignore[arg-type]
    return checked("describes itself", complaints, figures)


STEPS: dict[str, Step] = {
    "lists answer": _lists_answer,
    "each answers": _each_answers,
    "keys are published": _keys_are_published,
    **deployed_badges.STEPS,
    "describes itself": _describes_itself,
}
