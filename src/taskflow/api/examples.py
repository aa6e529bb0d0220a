"""Bodies shown in the OpenAPI document. All of them work against a server with the built-in handlers."""

from __future__ import annotations

from typing import Any

Examples = dict[str, Any]

SUBMIT: Examples = {
    "by name": {
        "summary": "A task and its arguments",
        "value": {"task": "echo", "kwargs": {"message": "hello"}, "priority": "high"},
    },
    "with options": {
        "summary": "Later, once, with a label",
        "value": {
            "task": "compute",
            "kwargs": {"operation": "fibonacci", "n": 30},
            "name": "the thirtieth",
            "delay": 5,
            "max_retries": 2,
            "timeout": 30,
            "idempotency_key": "fibonacci-30",
            "tags": ["demo"],
            "metadata": {"asked_by": "docs"},
        },
    },
    "func_name and args": {
        "summary": "The same with other words: func_name for task",
        "value": {"func_name": "echo", "args": ["hello"], "kwargs": {}, "priority": 1},
    },
    "task_type and payload": {
        "summary": "The same with other words: task_type for task, payload for kwargs",
        "value": {
            "name": "Fibonacci",
            "task_type": "compute",
            "payload": {"operation": "fibonacci", "n": 30},
            "priority": "high",
        },
    },
}

BATCH: Examples = {
    "two tasks": {
        "value": {
            "tasks": [
                {"task": "echo", "kwargs": {"message": "one"}},
                {"task": "echo", "kwargs": {"message": "two"}, "priority": "low"},
            ]
        }
    }
}

REDRIVE: Examples = {
    "one task, slowly": {"value": {"task": "http_request", "rate_per_second": 5}},
    "one kind of failure": {"value": {"fingerprint": "3f1c9a0b7d52"}},
    "by id": {"value": {"task_ids": ["0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"]}},
}

DISCARD: Examples = {
    "one kind of failure": {"value": {"fingerprint": "3f1c9a0b7d52"}},
    "by id": {"value": {"task_ids": ["0199a3c1-5e2f-7a41-9c1d-0f6f6b8f2c11"]}},
}
