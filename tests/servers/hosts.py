"""Hosts of a test's own: network namespaces on one bridge, each with an address of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.servers.s3 import Unavailable

NETWORK = "198.51.100."
"""Of addresses that are nobody's (RFC 5737)."""
BRIDGE = "defect-assets"
HERE = f"{NETWORK}1"
"""This host's own address on the bridge."""


@dataclass(frozen=True)
class Host:
    """A network namespace."""

    name: str
    address: str

    @property
    def command(self) -> list[str]:
        """What comes before a command that is to run there."""
        return ["ip", "netns", "exec", self.name]

    def cut_off(self) -> None:
        """Take the host from the network, as when its cable is pulled."""
        _ip("link", "set", _cable(self.name), "down")


@contextmanager
def hosts(number: int) -> Iterator[list[Host]]:
    """Make some hosts that see each other and this one.

    Raises
    ------
    Unavailable
        If this machine does not allow it.
    """
    if shutil.which("ip") is None or os.geteuid() != 0:
        raise Unavailable("network namespaces need root and iproute2")
    _remove([Host(f"{BRIDGE}-{n}", "") for n in range(number)])  # of a test that was killed
    addresses = subprocess.run(["ip", "-brief", "address"], capture_output=True, text=True)
    if f" {NETWORK}" in addresses.stdout:
        raise Unavailable(f"this machine is in the network {NETWORK}0 itself")
    made = [Host(f"{BRIDGE}-{n}", f"{NETWORK}{n + 2}") for n in range(number)]
    try:
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("address", "add", f"{HERE}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for host in made:
            cable = _cable(host.name)
            _ip("netns", "add", host.name)
            _ip("link", "add", cable, "type", "veth", "peer", "eth0", "netns", host.name)
            _ip("link", "set", cable, "master", BRIDGE, "up")
            for command in (
                ("address", "add", f"{host.address}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("link", "set", "lo", "up"),
            ):
                _ip("-netns", host.name, *command)
    except subprocess.CalledProcessError as error:
        _remove(made)
        raise Unavailable(f"no network namespaces here: {error.stderr}") from error
    try:
        yield made
    finally:
        _remove(made)


def _cable(name: str) -> str:
    return f"da-{name[-1]}"


def _remove(made: list[Host]) -> None:
    for command in (
        *(("link", "delete", _cable(host.name)) for host in made),
        *(("netns", "delete", host.name) for host in made),
        ("link", "delete", BRIDGE),
    ):
        with suppress(subprocess.CalledProcessError):
            _ip(*command)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
