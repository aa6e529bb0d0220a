"""What SQS allows. Source: Amazon SQS Developer Guide, "Quotas", and its API reference, 2026."""

from __future__ import annotations

BATCH_ENTRIES = 10
BATCH_BYTES = 1_048_576  # of all entries together, attributes included; of one message just as much
MESSAGE_ATTRIBUTES = 10
MAX_DELAY_SECONDS = 900.0
MAX_VISIBILITY_SECONDS = 43_200.0  # from the receive on, however often it is extended
LONG_POLL_SECONDS = 20
RETENTION_SECONDS = 4 * 86_400
DEAD_LETTER_RETENTION_SECONDS = 14 * 86_400  # counted from the first send, so longer than the above
GROUP_ID_CHARACTERS = 128
