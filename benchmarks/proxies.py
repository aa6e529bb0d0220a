"""TaskFlow's balancer, Nginx and HAProxy in front of the same instances, doing the same work per request.

All three keep connections to instances, spread requests in turn, set `X-Forwarded-*`, `X-Request-ID` and `Via`, and
write no access log. Each is one process: two cores are shared with the client and the instances.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.server import ROOT

_START_SECONDS = 30.0
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Proxy:
    name: str
    pid: int
    port: int


@dataclass(frozen=True)
class Tls:
    certificate: Path
    key: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(
    command: Sequence[str | Path], port: int, environment: dict[str, str] | None = None
) -> Iterator[int]:
    """Its process id, once it listens on ``port``; ended by SIGTERM."""
    started = subprocess.Popen(
        command,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if started.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(_LOOK_SECONDS)
        yield started.pid
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(_START_SECONDS)


@contextmanager
def raw_instance() -> Iterator[int]:
    """Its port."""
    port = free_port()
    with process([sys.executable, "-m", "benchmarks.raw_backend", str(port)], port):
        yield port


@contextmanager
def api_instance(home: Path) -> Iterator[int]:
    """Its port: a `taskflow api` without access log lines in the way."""
    port = free_port()
    command: list[str | Path] = [
        Path(sys.executable).with_name("taskflow"),
        "api",
        "--port",
        str(port),
    ]
    environment = {"TASKFLOW_HOME": str(home), "TASKFLOW_LOG_LEVEL": "error"}
    with process(command, port, environment):
        yield port


@contextmanager
def taskflow(directory: Path, instances: Sequence[int], tls: Tls | None = None) -> Iterator[Proxy]:
    port = free_port()
    urls = [f"http://127.0.0.1:{instance}" for instance in instances]
    environment = {
        "TASKFLOW_BALANCER_ACCESS_LOG": "false",
        "TASKFLOW_BALANCER_MAX_CLIENT_CONNECTIONS": "0",
        "TASKFLOW_BALANCER_TLS_CERTIFICATE": str(tls.certificate) if tls else "",
        "TASKFLOW_BALANCER_TLS_KEY": str(tls.key) if tls else "",
    }
    command: list[str | Path] = [
        Path(sys.executable).with_name("taskflow"),
        "balancer",
        *urls,
        "--port",
        str(port),
    ]
    with process(command, port, environment) as pid:
        yield Proxy("taskflow", pid, port)


@contextmanager
def nginx(directory: Path, instances: Sequence[int], tls: Tls | None = None) -> Iterator[Proxy]:
    port = free_port()
    servers = "".join(f"server 127.0.0.1:{instance};" for instance in instances)
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    secure = f"ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key};" if tls else ""
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"""daemon off; master_process off; worker_processes 1; pid {directory}/nginx.pid;
        error_log {directory}/nginx.log; events {{ worker_connections 8192; }}
        http {{ access_log off; {temporary} keepalive_requests 1000000000;
        upstream instances {{ {servers} keepalive 128; keepalive_requests 1000000000; }}
        server {{ listen 127.0.0.1:{port} {"ssl" if tls else ""}; {secure} server_tokens off;
        add_header Via "1.1 nginx"; add_header X-Request-ID $request_id;
        location / {{ proxy_pass http://instances; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header Forwarded "for=$remote_addr;proto=$scheme;host=$http_host";
        proxy_set_header Via "1.1 nginx"; proxy_set_header X-Request-ID $request_id; }} }} }}"""
    )
    command: list[str | Path] = [
        _program("nginx"),
        "-c",
        configuration,
        "-e",
        directory / "nginx.log",
    ]
    with process(command, port) as pid:
        yield Proxy("nginx", pid, port)


@contextmanager
def haproxy(directory: Path, instances: Sequence[int], tls: Tls | None = None) -> Iterator[Proxy]:
    port = free_port()
    servers = "\n".join(f"  server s{n} 127.0.0.1:{one}" for n, one in enumerate(instances))
    secure = ""
    if tls is not None:
        both = directory / "haproxy.pem"
        both.write_bytes(tls.certificate.read_bytes() + tls.key.read_bytes())
        secure = f" ssl crt {both}"
    configuration = directory / "haproxy.cfg"
    configuration.write_text(
        f"""global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend main
  bind 127.0.0.1:{port}{secure}
  option forwardfor
  unique-id-format %[uuid()]
  unique-id-header X-Request-ID
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header Via "1.1 haproxy"
  http-response set-header Via "1.1 haproxy"
  http-response set-header X-Request-ID %[unique-id]
  default_backend instances
backend instances
  balance roundrobin
{servers}
"""
    )
    with process([_program("haproxy"), "-f", configuration, "-db"], port) as pid:
        yield Proxy("haproxy", pid, port)


PROXIES = {"taskflow": taskflow, "nginx": nginx, "haproxy": haproxy}


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise RuntimeError(f"{name} is needed: apt-get install {name}")
    return found
