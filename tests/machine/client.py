"""Somebody who uses the API: a program that asks for what its argument lists, and tells what was answered."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import httpx

from obms.app import open_server_from_environment
from obms.web import create_app
from tests.web.conftest import Client, order

CHANGES = ("revoke", "suspend", "unsuspend")


def main() -> None:
    """Print a line for each wish once it is answered: what is printed has been promised."""
    client = Client(app=create_app(open_server_from_environment()))
    for wish in json.loads(sys.argv[1]):
        answer = _ask(client, wish)
        body = answer.json() if answer.content else {}
        sys.stdout.write(json.dumps({**wish, "status": answer.status_code, "body": body}) + "\n")
        sys.stdout.flush()


def _ask(client: Client, wish: Mapping[str, Any]) -> httpx.Response:
    do, id = wish["do"], wish["id"]
    if do == "issue":
        return client.post("/credentials", order(id))
    if do == "delete":
        return client.ask("DELETE", f"/credentials/{id}")
    return client.post(f"/credentials/{id}/{do}", {"reason": "told to"})


if __name__ == "__main__":
    main()
