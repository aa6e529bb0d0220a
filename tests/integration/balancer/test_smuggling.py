"""Messages that two programs could read in two ways: each is refused, or passed on so that there is one way left.

Every case goes raw to the balancer and to Nginx, in front of the same kind of instance, which reads with a third parser
(h11). Where Nginx refuses, the balancer refuses; where it is more lenient than Nginx, this table says why.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.balancer.corpus import CASES, HIDDEN, Case
from tests.support.balancer import BalancerProcess, balancing, converse
from tests.support.instance import Instance, running
from tests.support.ports import free_port

pytestmark = pytest.mark.xdist_group("balancer-smuggling")  # they share two servers

STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")


@pytest.fixture(scope="module")
def instance_of_ours() -> Iterator[Instance]:
    with running(Instance()) as instance:
        yield instance


@pytest.fixture(scope="module")
def balancer_of_one(
    instance_of_ours: Instance, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BalancerProcess]:
    with balancing(tmp_path_factory.mktemp("ours"), [instance_of_ours.url]) as balancer:
        yield balancer


@pytest.fixture(scope="module")
def instance_of_nginx() -> Iterator[Instance]:
    with running(Instance()) as instance:
        yield instance


@pytest.fixture(scope="module")
def nginx(instance_of_nginx: Instance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its port: a plain reverse proxy over an instance of its own."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    assert Path(program).exists(), "needed for this test: apt-get install nginx"
    directory, port = tmp_path_factory.mktemp("nginx"), free_port()
    temporary = "".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {directory}/pid; worker_processes 1; error_log {directory}/error.log;"
        f"events {{ worker_connections 256; }} http {{ access_log off; {temporary}"
        f"upstream instances {{ server 127.0.0.1:{instance_of_nginx.port}; keepalive 8; }}"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://instances;"
        "proxy_http_version 1.1; proxy_set_header Host $http_host;"
        'proxy_set_header Connection ""; proxy_request_buffering off; proxy_ignore_client_abort on; } } }'
    )
    with subprocess.Popen(
        [program, "-c", str(configuration), "-e", f"{directory}/error.log"]
    ) as process:
        try:
            for _ in range(500):
                try:
                    converse(port, b"GET /ready HTTP/1.0\r\n\r\n")
                    break
                except OSError:
                    assert process.poll() is None
                    try:
                        process.wait(0.02)
                    except subprocess.TimeoutExpired:
                        pass
            yield port
        finally:
            process.terminate()


def final_statuses(answer: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(answer) if not status.startswith(b"1")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_of_the_corpus(
    case: Case, balancer_of_one: BalancerProcess, instance_of_ours: Instance, nginx: int
) -> None:
    instance_of_ours.seen.clear()
    instance_of_ours.broken.clear()
    ours = final_statuses(converse(balancer_of_one.port, case.request))
    theirs = final_statuses(converse(nginx, case.request))
    assert ours[0] == case.ours
    assert (theirs[0] if theirs else 400) == (case.nginx or case.ours)
    if theirs and theirs[0] >= 400 and ours[0] < 400:
        assert case.why, "more lenient than Nginx without a reason"
    # Whatever was passed on, the instance read as whole requests, each of which was answered, and none was hidden.
    assert instance_of_ours.broken == []
    passed = [one for one in ours if one < 400]
    assert len(instance_of_ours.seen) == len(passed)
    assert [one.target for one in instance_of_ours.seen if one.target == "/hidden"] == []


METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"get", b"TRACE", b"", b"P\0ST"])
TARGETS = st.sampled_from(
    [b"/echo", b"/", b"*", b"echo", b"http://a/echo", b"/a b", b"/\xff", b"/#"]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""]
)
ENDS = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\0\r\n"])
NAMES = st.sampled_from(
    [b"Host", b"host", b"Content-Length", b"Content-length", b"Transfer-Encoding", b"Connection", b"Upgrade",
     b"Expect", b"X-A", b"Content_Length", b"Content-Length ", b" Content-Length", b"Transfer-Encoding\t", b"",
     b"X-Request-ID", b"Trailer", b"Keep-Alive", b"TE"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"a", b"0", b"5", b" 5", b"5 ", b"+5", b"5,5", b"00", b"chunked", b"Chunked", b" chunked ", b"gzip, chunked",
     b"identity", b"close", b"keep-alive", b"upgrade", b"100-continue", b"websocket", b"", b"\x0b", b"\xff", b"1\0"]
)  # fmt: skip
HEADERS = st.tuples(NAMES, st.sampled_from([b": ", b":", b" : ", b""]), VALUES, ENDS).map(b"".join)
BODIES = st.sampled_from(
    [b"", b"hello", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5;x\r\nhello\r\n0\r\nA: b\r\n\r\n",
     b"ffffffffffffffffff\r\n", HIDDEN, b"\r\n", b"5\r\nhello\r\n0\r\nContent-Length: 1\r\n\r\n"]
)  # fmt: skip
GOOD = st.sampled_from([b"Host: a\r\n"] * 8 + [b""])
REQUESTS = st.builds(
    lambda method, target, version, end, host, headers, last, body: (
        method + b" " + target + b" " + version + end + host + b"".join(headers) + last + body
    ),
    METHODS, TARGETS, VERSIONS, ENDS, GOOD, st.lists(HEADERS, max_size=4), ENDS, BODIES,
)  # fmt: skip
# Nearly all of those are refused. These are good, apart from at most one line.
FRAMED = st.sampled_from(
    [b"\r\n", b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 0\r\n\r\n",
     b"Content-Length: %d\r\n\r\n%b" % (len(HIDDEN), HIDDEN),
     b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n00\r\nA: b\r\n\r\n"]
)  # fmt: skip
NEARLY_GOOD = st.builds(
    lambda method, target, version, line, framed: (
        method + b" " + target + b" " + version + b"\r\nHost: a\r\n" + line + framed
    ),
    st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"PATCH"]),
    st.sampled_from([b"/echo", b"/", b"/echo?a=b", b"http://a/echo", b"/x/%2e%2e/y", b"//echo", b"/a/../b"]),
    st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0"]),
    st.one_of(st.just(b""), HEADERS, st.tuples(NAMES, VALUES).map(lambda pair: b"%b: %b\r\n" % pair)),
    FRAMED,
)  # fmt: skip


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(requests=st.lists(REQUESTS | NEARLY_GOOD, min_size=1, max_size=3).map(b"".join))
def test_made_up_requests_are_refused_or_read_in_one_way(
    requests: bytes,
    balancer_of_one: BalancerProcess,
    instance_of_ours: Instance,
    nginx: int,
    instance_of_nginx: Instance,
) -> None:
    for instance in (instance_of_ours, instance_of_nginx):
        instance.seen.clear()
        instance.broken.clear()
    statuses = final_statuses(converse(balancer_of_one.port, requests))
    assert instance_of_ours.broken == []
    answered = [status for status in statuses if status < 400]
    assert len(instance_of_ours.seen) == len(answered)
    assert [status for status in statuses if status >= 500 and status not in {501, 505}] == []
    assert all(status < 400 for status in statuses[:-1]), "nothing is read after a refusal"
    theirs = final_statuses(converse(nginx, requests))
    # 502: it was passed on, over a kept connection that its instance was just closing.
    passed = list(takewhile(lambda status: status < 400 or status == 502, theirs))
    assert len(answered) <= len(passed), (
        f"more lenient than Nginx: {statuses}, {theirs}: {requests!r}"
    )
    whole = len(list(takewhile(lambda status: status < 400, theirs)))
    for ours, others in zip(instance_of_ours.seen, instance_of_nginx.seen[:whole], strict=False):
        assert (ours.method, ours.target, ours.body) == (others.method, others.target, others.body)
