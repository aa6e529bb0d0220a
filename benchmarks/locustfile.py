"""Load from many users at once, with Locust: submit, ask, wait, list, cancel, retry, look at the numbers.

    taskflow dev &
    locust -f benchmarks/locustfile.py --host http://127.0.0.1:8000            # with its web page, or
    locust -f benchmarks/locustfile.py --host … --headless -u 50 -r 50 -t 30s

Any answer other than the ones a user has to expect counts as a failure. Needs nothing but the built-in handlers.
"""

from __future__ import annotations

from uuid import uuid4

from locust import FastHttpUser, between, task

_FULL = 429  # a bounded queue says no, politely
_FINAL_ALREADY = 409


class Submitter(FastHttpUser):
    """Most of the load: one task at a time, a few with a result waited for, some in batches."""

    weight = 4
    wait_time = between(0.0, 0.02)

    @task(10)
    def submit(self) -> None:
        self._post(
            "/api/v1/tasks",
            {"task": "echo", "kwargs": {"value": {"n": 1}}, "priority": "normal"},
            accepted={200, 202, _FULL},
        )

    @task(3)
    def submit_and_wait(self) -> None:
        body = {"task": "compute", "kwargs": {"operation": "fibonacci", "n": 30}}
        answer = self._post("/api/v1/tasks", body, accepted={202, _FULL})
        if "task_id" in answer:
            path = f"/api/v1/tasks/{answer['task_id']}?wait=10"
            with self.client.get(path, name="/api/v1/tasks/{id}?wait", catch_response=True) as got:
                if got.status_code != 200 or got.json()["result"] != 832040:
                    got.failure(f"{got.status_code}: {got.text[:200]}")

    @task(2)
    def submit_twice_with_one_key(self) -> None:
        body = {"task": "echo", "kwargs": {"value": 1}, "idempotency_key": str(uuid4())}
        first = self._post("/api/v1/tasks", body, accepted={202, _FULL})
        if "task_id" in first:
            second = self._post("/api/v1/tasks", body, accepted={200})
            assert first["task_id"] == second.get("task_id"), "one key made two tasks"

    @task(1)
    def submit_a_batch(self) -> None:
        tasks = [{"task": "echo", "kwargs": {"value": n}} for n in range(50)]
        self._post("/api/v1/tasks/batch", {"tasks": tasks}, accepted={200, 202, 207})

    @task(1)
    def submit_something_flaky(self) -> None:
        body = {
            "task": "simulate",
            "kwargs": {"latency_ms": 5, "jitter_ms": 5, "permanent_probability": 0.2},
        }
        self._post("/api/v1/tasks", body, accepted={202, _FULL})

    def _post(self, path: str, body: object, *, accepted: set[int]) -> dict[str, str]:
        with self.client.post(path, json=body, catch_response=True) as response:
            if response.status_code in accepted:
                response.success()
                answer = response.json()
                return answer if isinstance(answer, dict) else {}
            response.failure(f"{response.status_code}: {response.text[:200]}")
            return {}


class Operator(FastHttpUser):
    """People and monitors who look while the others submit, and now and then step in."""

    weight = 1
    wait_time = between(0.05, 0.2)

    @task(3)
    def look(self) -> None:
        for path in ("/api/v1/metrics", "/stats", "/metrics", "/health/ready", "/api/v1/workers"):
            self.client.get(path)

    @task(2)
    def list_tasks(self) -> None:
        self.client.get("/api/v1/tasks?limit=20&status=completed", name="/api/v1/tasks?status")
        self.client.get("/api/v1/dead-letters/groups")

    @task(1)
    def cancel_what_is_scheduled(self) -> None:
        body = {"task": "echo", "kwargs": {"value": 1}, "delay": 600}
        with self.client.post("/api/v1/tasks", json=body, catch_response=True) as response:
            if response.status_code == _FULL:
                response.success()
                return
            task_id = response.json()["task_id"]
        with self.client.post(
            f"/api/v1/tasks/{task_id}/cancel", name="/api/v1/tasks/{id}/cancel", catch_response=True
        ) as response:
            if response.status_code in (200, 202, _FINAL_ALREADY):
                response.success()

    @task(1)
    def redrive_dead_letters(self) -> None:
        self.client.post(
            "/api/v1/dead-letters/redrive",
            json={"task": "simulate", "rate_per_second": 100, "limit": 20},
        )
