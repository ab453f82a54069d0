"""The image and the compose files, as they are: small, without root, and understood by docker-compose."""

import json
from pathlib import Path

from tests.containers.engine import Images, docker
from tests.containers.site import PROD, TEST, Site

LARGEST = 300_000_000  # bytes, beside the image that it is built on


def test_the_image_is_small_and_without_root(images: Images) -> None:
    sizes = [
        int(docker("image", "inspect", "--format", "{{.Size}}", name))
        for name in (images.server, images.python)
    ]
    print(f"image      {sizes[0] / 1e6:.0f} MB, {sizes[1] / 1e6:.0f} MB of it the Python that it is built on")
    assert sizes[0] - sizes[1] < LARGEST
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", images.server))
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"] == ["CMD", "/scripts/health-check.sh"]
    assert config["Entrypoint"][0] == "tini"


def test_the_clients_of_postgresql_are_those_of_18(images: Images) -> None:
    for program in ("pg_dump", "psql"):
        assert " 18." in docker("run", "--rm", "--network=none", images.server, program, "--version")


def test_compose_understands_both_files(folder: Path, images: Images) -> None:
    for kind in ("sqlite", "postgresql"):
        with Site.made(folder / f"config-{kind}", kind, images) as site:
            for file in (PROD, TEST):
                with site.typed(f"docker-compose -f {file} config --quiet", "valid") as ended:
                    assert ended.out + ended.err == ""


def test_a_missing_secret_key_is_one_line(folder: Path, images: Images) -> None:
    with Site.made(folder / "keyless", "sqlite", images) as site:
        del site.settings["SECRET_KEY"]
        site.write_settings()
        with site.typed(
            f"docker-compose -f {PROD} up -d", "SECRET_KEY is missing: one line", code=1
        ) as ended:
            assert "not set in .env" in ended.err
            assert len(ended.err.strip().splitlines()) == 1
        site.write_settings(SECRET_KEY="")
        assert site.run(f"docker-compose -f {PROD} up -d").code != 0
        assert "SECRET_KEY is empty" in site.run(f"docker-compose -f {PROD} logs ready").out
