"""What this worker has for tasks that name what they need, e.g. ``gpu: 1``."""

from __future__ import annotations

from collections.abc import Mapping


class Resources:
    """Amounts by name. Not thread safe, the caller holds a lock."""

    def __init__(self, totals: Mapping[str, float]) -> None:
        self._totals = dict(totals)
        self._used = dict.fromkeys(self._totals, 0.0)

    def has(self, needs: Mapping[str, float]) -> bool:
        """Whether this could ever be taken here."""
        return all(amount <= self._totals.get(name, 0.0) for name, amount in needs.items())

    def free_for(self, needs: Mapping[str, float]) -> bool:
        totals, used = self._totals, self._used
        return all(
            amount <= totals.get(name, 0.0) - used.get(name, 0.0) for name, amount in needs.items()
        )

    def take(self, needs: Mapping[str, float]) -> bool:
        """All of it or nothing."""
        if not self.free_for(needs):
            return False
        for name, amount in needs.items():
            self._used[name] += amount
        return True

    def give_back(self, needs: Mapping[str, float]) -> None:
        for name, amount in needs.items():
            self._used[name] -= amount
            if self._used[name] < 1e-9:  # fractions like 0.1 do not add up exactly
                self._used[name] = 0.0

    def snapshot(self) -> dict[str, dict[str, float]]:
        return {
            name: {"total": total, "used": self._used[name]} for name, total in self._totals.items()
        }
