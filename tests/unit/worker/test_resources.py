from __future__ import annotations

from taskflow.worker.resources import Resources


def test_all_of_it_or_nothing() -> None:
    resources = Resources({"gpu": 1, "memory_mb": 1_000})
    assert resources.take({"gpu": 1, "memory_mb": 600})
    assert not resources.take({"memory_mb": 300, "gpu": 1})
    assert resources.take({"memory_mb": 400})
    assert resources.snapshot()["memory_mb"] == {"total": 1_000, "used": 1_000}


def test_what_is_given_back_can_be_taken_again() -> None:
    resources = Resources({"share": 1})
    parts = [{"share": 0.1}] * 10
    for _ in range(3):
        assert all(resources.take(part) for part in parts[:9])
        for part in parts[:9]:
            resources.give_back(part)
    assert resources.take({"share": 1})


def test_what_it_does_not_have_it_never_has() -> None:
    resources = Resources({"gpu": 1})
    assert resources.has({"gpu": 1})
    assert not resources.has({"gpu": 2})
    assert not resources.has({"fpga": 1})
    assert not resources.free_for({"fpga": 1})
    assert resources.has({})
