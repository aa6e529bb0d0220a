"""What all connections of one balancer share: instances, rules, counts, and whether it is about to stop."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Set
from typing import TYPE_CHECKING

from taskflow.balancer.access_log import AccessLog
from taskflow.balancer.clients import Clients
from taskflow.balancer.config_file import read_config
from taskflow.balancer.forwarding import TrustedProxies
from taskflow.balancer.instances import Instance, Instances
from taskflow.balancer.metrics import BalancerMetrics
from taskflow.balancer.options import BalancerOptions
from taskflow.balancer.problems import RefusedError
from taskflow.balancer.strategies import build_strategy
from taskflow.logs import get_logger
from taskflow.ports.clock import Clock

if TYPE_CHECKING:
    from taskflow.balancer.client_connection import ClientConnection
    from taskflow.balancer.exchange import Exchange
    from taskflow.balancer.redirect import Redirect
    from taskflow.balancer.tls import Certificate

log = get_logger(__name__)

_BUSY_SECONDS = 1.0
_CHECKED_AT_ONCE = 1_000  # clients in one sweep: with more of them requests would wait for its end


class Balancer:
    """Belongs to one event loop. Raises ConfigurationError."""

    def __init__(
        self, options: BalancerOptions, clock: Clock, *, access_log: AccessLog | None = None
    ) -> None:
        self.options = options
        self.limits = options.limits
        self.timeouts = options.timeouts
        self.buffer_bytes = options.limits.buffer_bytes
        self.max_target_bytes = options.limits.max_target_bytes
        self.monotonic: Callable[[], float] = clock.monotonic
        self.trusted = TrustedProxies(options.trusted_proxies)
        self.metrics = BalancerMetrics()
        self.instances = Instances(options.health, clock.monotonic, self.metrics.of)
        self.clients = Clients(options.limits, self.trusted)
        self.access_log = access_log or AccessLog(clock.now_us)
        self.redirect: Redirect | None = None  # of the listener whose clients are sent to HTTPS
        self.certificate: Certificate | None = None
        self.is_draining = False
        self.extra_headers = (
            b"Strict-Transport-Security: max-age=%d\r\n" % options.hsts_seconds
            if options.tls is not None and options.hsts_seconds
            else b""
        )
        self._to_check: list[ClientConnection] = []
        self.logs = options.access_log
        self.strategy = build_strategy(options.strategy)
        # Unique among all balancers' for what is practical: 64 random bits of this process and a count.
        form = secrets.token_hex(8).encode() + b"-%x"
        self.new_request_id: Callable[[], bytes] = map(form.__mod__, itertools.count(1)).__next__
        self.load_instances()

    def load_instances(self) -> None:
        """From the options and the configuration file: what has changed there since the last time, so that a reload for
        a new certificate undoes nothing. Raises ConfigurationError, changing nothing."""
        file = self.options.config_file
        urls = read_config(file) if file is not None else ()
        self.instances.configure([*self.options.instances, *urls])

    def reload(self) -> list[str]:
        """Configuration file and certificate anew. What is wrong, in sentences; that part stays as it was."""
        from taskflow.core.errors import ConfigurationError

        problems = []
        steps: list[Callable[[], None]] = []
        if self.options.config_file is not None:
            steps.append(self.load_instances)
        if self.certificate is not None:
            steps.append(self.certificate.load)
        for step in steps:
            try:
                step()
            except ConfigurationError as exc:
                problems.append(exc.detail)
                log.error("balancer.reload_failed", error=exc.detail)
        if not problems:
            log.info("balancer.reloaded", instances=len(self.instances))
        return problems

    def choose(self, tried: Set[Instance] | None) -> Instance | None:
        """Who gets the next request; None: there is nobody who has not been tried."""
        instances = self.instances
        candidates = instances.available
        if tried:
            candidates = [one for one in candidates if one not in tried]
        if not candidates:
            return None
        return self.strategy.pick(candidates, instances.weight if instances.any_slow else None)

    def unavailable(self, *, found_busy: bool, timed_out: bool, were_tried: bool) -> RefusedError:
        if found_busy:
            most = self.limits.max_instance_connections
            return RefusedError(
                "instances_busy",
                f"every instance has {most} connections in use (TASKFLOW_BALANCER_MAX_INSTANCE_CONNECTIONS)",
                retry_after_seconds=_BUSY_SECONDS,
            )
        if timed_out:
            return RefusedError(
                "instance_timeout",
                f"no instance accepted a connection within {self.timeouts.connect:g} s",
            )
        health = self.options.health
        return RefusedError(
            "no_instance",
            "no instance could be reached" if were_tried else "no instance is available now",
            retry_after_seconds=health.interval * health.rise,
        )

    def refused(self, error: RefusedError, client: str) -> None:
        self.metrics.refusals[error.code] += 1
        log.info(
            "http.refused", code=error.code, status=error.status, error=error.detail, client=client
        )

    def record(self, exchange: Exchange, now: float) -> None:
        """One exchange is over."""
        instance = exchange.instance
        seconds = now - exchange.started_at
        counts = instance.counts if instance is not None else self.metrics.of("")
        counts.add(exchange.status, seconds, exchange.request_bytes, exchange.response_bytes)
        if self.logs:
            self.log(exchange, seconds)

    def log(self, exchange: Exchange, seconds: float) -> None:
        instance = exchange.instance
        self.access_log.add(
            exchange.status, exchange.method, exchange.logged_path, exchange.request_id, exchange.client_address,
            instance.name if instance is not None else None, exchange.attempts, seconds,
            exchange.request_bytes, exchange.response_bytes,
        )  # fmt: skip

    def drain(self) -> None:
        """From now on answers close their connections. Listening must have ended before."""
        self.is_draining = True
        for client in self.clients.all():
            client.drain()

    def sweep(self) -> None:
        """Once every fraction of a second: what is late, what has been idle for long, what is to be logged."""
        now = self.monotonic()
        if not self._to_check:
            self._to_check = self.clients.all()
        for client in self._to_check[-_CHECKED_AT_ONCE:]:
            if client in self.clients:
                client.check(now)
        del self._to_check[-_CHECKED_AT_ONCE:]
        oldest = now - self.timeouts.instance_keep_alive
        for instance in self.instances:
            # The longest unused come first.
            while instance.idle and instance.idle[0].idle_since < oldest:
                instance.idle[0].close()
        self.access_log.flush()
