"""Audio from URLs: only from hosts that were allowed, and never from inside the network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

import httpx
from anyio import to_thread

from coat.serving.errors import RefusedError


async def fetch(url: str, allowed: Collection[str], *, max_bytes: int, timeout: float = 20.0) -> bytes:
    """Download a file from an allowed host.

    The host's address is looked up once, checked, and connected to: a name that changes its mind in between
    gains nothing. Redirects are not followed.

    Args:
        url: http or https.
        allowed: Host names, each as it is or with a leading dot for all below it.
        max_bytes: Refuse what is larger.
        timeout: Seconds for connecting and for each read.

    Raises:
        RefusedError: The host is not allowed, is private, does not answer, or sends too much.
    """
    try:
        parts = urlsplit(url)
        host, given_port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise RefusedError(400, f"The audio's address is no URL ({error}).", param="audio_url") from None
    if not any(host == name or (name.startswith(".") and host.endswith(name)) for name in allowed):
        raise RefusedError(
            400, f"This server does not fetch audio from '{host}': send it as a data: URL or as input_audio.",
            param="audio_url",
        )  # fmt: skip
    port = given_port or (443 if parts.scheme == "https" else 80)
    address = await to_thread.run_sync(public_address, host, port)
    literal = f"[{address}]" if ":" in address else address
    pinned = parts._replace(netloc=literal + (f":{given_port}" if given_port else "")).geturl()
    try:
        async with (
            httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "GET", pinned, headers={"Host": parts.netloc.rpartition("@")[2]}, extensions={"sni_hostname": host}
            ) as response,
        ):
            if response.status_code != 200:
                raise RefusedError(400, f"{host} answered {response.status_code} for the audio.", param="audio_url")
            data = bytearray()
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > max_bytes:
                    raise RefusedError(413, f"The audio is larger than {max_bytes} bytes.", param="audio_url")
            return bytes(data)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RefusedError(
            400, f"The audio could not be fetched from {host}: {type(error).__name__}.", param="audio_url"
        ) from None


def public_address(host: str, port: int) -> str:
    """An address of a host, none of whose addresses is inside a private network.

    Raises:
        RefusedError: One is, or there is no such host.
    """
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise RefusedError(400, f"There is no host '{host}'.", param="audio_url") from None
    addresses = [ipaddress.ip_address(str(address).partition("%")[0]) for address in found]
    if not all(address.is_global and not address.is_multicast for address in addresses):
        raise RefusedError(400, f"'{host}' is inside a private network.", param="audio_url")
    return str(sorted(addresses, key=lambda address: (address.version, str(address)))[0])
