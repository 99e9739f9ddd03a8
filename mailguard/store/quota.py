"""How much an account may hold, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Octets and messages; 0 means no limit."""

    storage: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Quota:
    """Octets and messages, used and allowed; a limit of 0 means none."""

    storage_used: int
    storage_limit: int
    messages_used: int
    messages_limit: int

    @property
    def percent(self) -> int:
        """How full the account is, by whichever limit is nearer."""
        pairs = ((self.storage_used, self.storage_limit), (self.messages_used, self.messages_limit))
        return max((100 * used // limit for used, limit in pairs if limit), default=0)

    def holds(self, octets: int, messages: int = 1) -> bool:
        """Whether so much more fits."""
        return (not self.storage_limit or self.storage_used + octets <= self.storage_limit) and (
            not self.messages_limit or self.messages_used + messages <= self.messages_limit
        )


class OverQuotaError(ValueError):
    """The account is full; the text names the limit and what would have to go."""

    def __init__(self, quota: Quota) -> None:
        limits = []
        if quota.storage_limit:
            limits.append(f"{quota.storage_used:,} of {quota.storage_limit:,} octets")
        if quota.messages_limit:
            limits.append(f"{quota.messages_used:,} of {quota.messages_limit:,} messages")
        super().__init__(f"the account is full: it holds {' and '.join(limits)}; delete something")
        self.quota = quota
