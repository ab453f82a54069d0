"""An application in process, on each kind of database, and someone who talks to it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from obms.web import create_app
from tests.deployment import API_KEY, Deployment

ISSUER = {"name": "Höhere Schule", "url": "https://school.example.org/", "email": "a@school.example.org"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Asks the application, by default with the key of the environment."""

    app: FastAPI

    def ask(self, method: str, path: str, *, key: str | None = API_KEY, **more: Any) -> httpx.Response:
        headers = {**({"X-API-Key": key} if key else {}), **more.pop("headers", {})}

        async def exchange() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test.invalid") as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(exchange())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return self.ask("POST", path, json=json, **more)

    def add_issuer(self, **more: object) -> str:
        answer = self.post("/issuers", {**ISSUER, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def add_achievement(self, issuer: str | None = None, **more: object) -> str:
        body = {
            "name": "データ分析",
            "description": "表計算と統計 📊",
            "criteria": "https://school.example.org/criteria",
            "image": "https://school.example.org/badge.png",
            "issuer": issuer or self.add_issuer(),
            "tags": ["a", "a", "é"],
        }
        answer = self.post("/achievements", {**body, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def issue(self, achievement: str | None = None, **more: object) -> str:
        """The bare id of a new credential."""
        answer = self.post("/credentials", order(achievement or self.add_achievement(), **more))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"]).rpartition("/")[2]


def order(achievement: str, **more: object) -> dict[str, object]:
    """The body that asks for a credential."""
    recipient = {"type": "email", "identity": "zoë@example.org"}
    return {
        "recipient": recipient,
        "badge": achievement,
        "issuedOn": "2026-01-01T00:00:00Z",
        "proof": "jwt",
        **more,
    }


@pytest.fixture
def client(deployment: Deployment) -> Iterator[Client]:
    """The application of a migrated, empty server."""
    server = deployment.application
    yield Client(app=create_app(server))
    server.database.engine.dispose()


@pytest.fixture
def one(sqlite: Deployment) -> Iterator[Client]:
    """The same on SQLite alone: for what is above the database."""
    server = sqlite.application
    yield Client(app=create_app(server))
    server.database.engine.dispose()
