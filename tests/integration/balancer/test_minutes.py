"""WebSockets through a balancer as it is by default, for longer than any of its timeouts but the tunnel's own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import websockets.sync.client

from tests.support.balancer import balancing
from tests.support.instance import Instance
from tests.support.ports import free_port
from tests.support.server import ROOT
from tests.support.waiting import wait_for

SECONDS = 130  # more than twice the silence that an exchange is allowed, and six pings


@contextmanager
def instance_process(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    command = [sys.executable, "-m", "tests.support.instance", str(port), str(directory / "seen")]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_websockets_stay_open_for_minutes_through_an_instances_death_and_close_on_drain(
    directory: Path, instance: Instance
) -> None:
    with (
        instance_process(directory) as (other, other_url),
        balancing(directory, [instance.url]) as balancer,
    ):
        url = f"ws://127.0.0.1:{balancer.port}/websocket"
        # One with pings every 20 s, as clients do it, and one that nobody says anything on.
        with (
            websockets.sync.client.connect(url) as pinged,
            websockets.sync.client.connect(url, ping_interval=None) as silent,
        ):
            balancer.add(other_url)
            wait_for(lambda: balancer.states()[other_url] == "up", "the other instance is there")
            other.kill()
            wait_for(lambda: balancer.states()[other_url] != "up", "and is dead")
            with pytest.raises(TimeoutError):
                silent.recv(SECONDS)
            for socket in (pinged, silent):
                socket.send("still here")
                assert socket.recv(60) == "still here"
            assert pinged.latency > 0, "no ping has been answered"

            balancer.process.send_signal(signal.SIGTERM)
            for socket in (pinged, silent):
                with pytest.raises(websockets.exceptions.ConnectionClosedOK) as caught:
                    socket.recv(60)
                assert caught.value.rcvd is not None
                assert caught.value.rcvd.code == 1001
        assert balancer.process.wait(60) == 0
