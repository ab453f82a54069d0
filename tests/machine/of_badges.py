"""Rules of badges: what the API promises, and when it is killed."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.faults.killer import NEVER, Shot
from tests.machine.moments import Held
from tests.machine.rules import rule
from tests.machine.world import World


@rule(6)
def write(world: World) -> Iterator[str]:
    """A few requests to the API."""
    yield from _write(world, NEVER)


@rule(2)
def write_killed(world: World) -> Iterator[str]:
    yield from _write(world, world.draw_shot("api"))


def _write(world: World, shot: Shot) -> Iterator[str]:
    wishes = [_wish(world) for _ in range(world.chance.randint(1, 5))]
    answers = world.ask(wishes, shot)
    told = ", ".join(f"{answer['do']} {answer['id'][:8]} {answer['status']}" for answer in answers)
    world.said = f"{told}; {world.said}"
    for answer in answers:
        expected = (503,) if world.live is None else (200, 201, 204, 404, 409, 410)
        if answer["status"] not in expected:
            yield f"the API answers {answer}"
        if answer["status"] < 300:
            _promised(world, answer)
    for wish in wishes[len(answers) :]:
        if wish["do"] != "issue":
            world.unsure.add(wish["id"])
    world.live = world.look()
    if world.live is not None:
        world.ever |= Held.of(world.live)
        world.places |= world.live.places


def _wish(world: World) -> dict[str, str]:
    do = world.chance.choice(
        ["issue", "issue", "revoke", "revoke", "suspend", "suspend", "unsuspend", "delete"]
    )
    if do == "issue":
        return {"do": do, "id": world.chance.choice(world.achievements)}
    there = [id for id in world.known if world.live is None or id in world.live.credentials]
    marked = [id for id in there if world.live and id in world.live.suspended]
    return {"do": do, "id": world.chance.choice((do == "unsuspend" and marked) or there or world.known)}


def _promised(world: World, answer: dict[str, Any]) -> None:
    """Remember what the API has answered for."""
    do, id = answer["do"], answer["id"]
    if do == "issue":
        world.known.append(str(answer["body"]["id"]).rpartition("/")[2])
        return
    if do == "unsuspend":
        world.lifted.add(id)
    elif do == "suspend":
        world.lifted.discard(id)
    world.journal = world.journal.told(do, id)
    world.ever = replace(world.ever.told(do, id), suspended=world.ever.suspended | {id})
