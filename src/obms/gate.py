"""What the settings say of those who come in: keys, passwords, rates, proxies, origins."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network
ADMIN = "admin"
SESSION = timedelta(hours=1)


def hash_key(key: str) -> str:
    """A key has 256 bits of chance in it, so a plain hash keeps it: there is nothing to guess."""
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentKey:
    """An API key of the environment; it acts for a user, or for the administrator."""

    user_id: str
    digest: str = field(repr=False)

    def opens(self, key: str) -> bool:
        return hmac.compare_digest(self.digest, hash_key(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentUser:
    """A name and a password of the environment, for HTTP Basic."""

    name: str
    user_id: str
    is_admin: bool
    digest: str = field(repr=False)

    def opens(self, password: str) -> bool:
        return hmac.compare_digest(self.digest, hash_key(password))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Rates are spelled `10/minute`, and None is no limit; proxies and exempt are networks."""

    keys: tuple[EnvironmentKey, ...] = ()
    users: tuple[EnvironmentUser, ...] = ()
    registration: bool = False
    session: timedelta = SESSION
    rate: str | None = None
    login_rate: str | None = "10/minute"
    exempt: tuple[Network, ...] = ()
    proxies: tuple[Network, ...] = ()
    origins: tuple[str, ...] = ("*",)


def read_key(setting: str, text: str) -> EnvironmentKey:
    """`key:userId:description`, or ValueError, which does not show the key."""
    key, _, rest = text.partition(":")
    user_id = rest.partition(":")[0].strip()
    if not key or not user_id:
        raise ValueError(f"{setting} must be key:userId:description")
    return EnvironmentKey(user_id=user_id, digest=hash_key(key))


def read_user(name: str, text: str) -> EnvironmentUser:
    """`password:userId:role`, or ValueError; the password may have colons in it."""
    password, _, rest = text.rpartition(":")
    password, _, user_id = password.rpartition(":")
    if not (password and user_id and rest):
        raise ValueError(f"AUTH_BASIC_AUTH_{name} must be password:userId:role")
    return EnvironmentUser(
        name=name.lower(), user_id=user_id, is_admin=rest.strip() == ADMIN, digest=hash_key(password)
    )


def read_networks(setting: str, texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks, none for `none`, or ValueError."""
    try:
        return tuple(ip_network(text) for text in texts if text != "none")
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None
