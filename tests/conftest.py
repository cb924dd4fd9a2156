"""What every test lives in: no network, no hub, one place to find the datasets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before any test imports huggingface_hub: it reads these once.
for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[_name] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parent.parent
LOOPBACK = ("127.", "::1", "localhost")


class NetworkReached(AssertionError):
    """A test tried to leave this machine."""


def _guard(original: Any) -> Any:
    def connect(self: socket.socket, address: Any) -> Any:
        is_local = not isinstance(address, tuple) or str(address[0]).startswith(LOOPBACK)
        if not is_local:
            raise NetworkReached(f"no test may reach the network, and this one tried {address!r}")
        return original(self, address)

    return connect


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _guard(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", _guard(socket.socket.connect_ex))
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real datasets (TILTSCOPE_DATA, default ../shared/data); a test that asks is skipped without it."""
    folder = Path(os.environ.get("TILTSCOPE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real datasets are not at hand: {folder} is not a folder (set TILTSCOPE_DATA)")
    return folder
