"""When a request that got no answer is tried again, and after which wait. Decisions only: `_plans`
carries them out, with the same words as the Rust SDK."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ._errors import ApiError, ConnectionFailed

WITHIN = 60.0
"""Seconds without progress after which a lost server is given up."""
FIRST_WAIT = 0.1
"""Seconds before the second try."""
LONGEST_WAIT = 2.0
"""Seconds: the longest wait between two tries, unless the server asks for a longer one."""
_MOST_DOUBLINGS = 10

# Skep's word for "not now", also without Retry-After.
_PASSING = frozenset({"shutting-down", "store-unavailable"})
# These end when somebody does something, and not by waiting.
_LASTING = frozenset({"agent-stopped", "agent-crash-loop"})


def judge(error: Exception, *, reached: bool, safe: bool) -> float | None:
    """The least wait in seconds before another try; `None` when the failure is the result.

    `reached`: the server was there once. `safe`: whatever became of the request, it does no harm to send
    it again.
    """
    if isinstance(error, ConnectionFailed):
        # A server that was never there is rather a wrong address.
        again = safe if error.sent else reached
        return 0.0 if again else None
    if isinstance(error, ApiError):
        if error.status == 429:
            return error.retry_after
        if error.status == 503 and error.code in _PASSING:
            return error.retry_after or 0.0
        if error.status == 503 and error.code not in _LASTING:
            return error.retry_after
    return None


@dataclass
class Waits:
    """The waits between tries that fail one after the other."""

    within: float = WITHIN
    first: float = FIRST_WAIT
    spent: float = field(default=0.0, init=False)
    tries: int = field(default=0, init=False)

    def progress(self) -> None:
        """Something new came: the patience begins anew."""
        self.spent, self.tries = 0.0, 0

    def next(self, at_least: float, took: float = 0.0, chance: float | None = None) -> float | None:
        """Seconds before the next try; `None` when the patience is at its end. `took`: seconds that the
        try itself was without a connection."""
        self.spent += took
        left = self.within - self.spent
        if left <= 0 or at_least > left:
            return None
        half = min(self.first * (1 << min(self.tries, _MOST_DOUBLINGS)), LONGEST_WAIT) / 2
        # Half of it random, so that the clients of a server that is back do not come at once.
        share = random.random() if chance is None else chance
        wait = min(max(half + half * share, at_least), left)
        self.spent += wait
        self.tries += 1
        return wait
