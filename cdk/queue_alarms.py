"""The four alarms of a queue. They are made of the row of `profiles.py` that the queue itself is made of.

`ApproximateAgeOfOldestMessage` counts messages that workers hold, too: a task that may run for an hour is not late. So
the age counts only while something waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdk import series
from cdk.profiles import Profile
from cdk.queues import PriorityQueue

if TYPE_CHECKING:
    from cdk.alarms import Alarms


def add_queue_alarms(alarms: Alarms, queue: PriorityQueue, profile: Profile) -> None:
    title = queue.name.title().replace("-", "")
    name, dead = queue.queue.queue_name, queue.dead_letters.queue_name
    is_long = queue.name.startswith("long-")
    row, numbers = queue.numbers, profile.alarms
    visible = series.queue("ApproximateNumberOfMessagesVisible", name, "Maximum")
    alarms.add(
        f"{title}OldestMessage",
        f"Messages of queue {queue.name} wait for too long: are there workers, and are they fast enough? "
        "taskflow logs slowest-tasks",
        (
            "IF(FILL(visible,0)>0,FILL(age,0),0)",
            {
                "visible": visible,
                "age": series.queue("ApproximateAgeOfOldestMessage", name, "Maximum"),
            },
        ),
        threshold=row.long_age_slo_seconds if is_long else row.age_slo_seconds,
        of_them=3,
    )
    alarms.add(
        f"{title}DeadLetters",
        f"SQS has given up messages of queue {queue.name}. Their tasks are not lost: taskflow logs dead-letters",
        (
            # Taken up within a second, they may never be counted as there.
            "FILL(waiting,0)+FILL(received,0)",
            {
                "waiting": series.queue("ApproximateNumberOfMessagesVisible", dead, "Maximum"),
                "received": series.queue("NumberOfMessagesReceived", dead, "Sum"),
            },
        ),
        threshold=0,
        minutes=1,
    )
    if not numbers.all_of_each_queue:
        return
    in_flight = series.queue("ApproximateNumberOfMessagesNotVisible", name, "Maximum")
    deleted = series.queue("NumberOfMessagesDeleted", name, "Sum")
    alarms.add(
        f"{title}InFlight",
        f"Workers hold nearly as many messages of queue {queue.name} as SQS gives out at once",
        in_flight,
        threshold=numbers.in_flight_messages,
        of_them=3,
    )
    alarms.add(
        f"{title}Stalled",
        f"Messages of queue {queue.name} wait, and nobody finishes any: is its consumer switched off, or failing?",
        (
            # A long task is held for long, and deleted once.
            "IF(FILL(visible,0)>0 AND FILL(deleted,0)==0"
            + (" AND FILL(held,0)==0" if is_long else "")
            + ",1,0)",
            {"visible": visible, "deleted": deleted} | ({"held": in_flight} if is_long else {}),
        ),
        threshold=1,
        minutes=numbers.stalled_minutes,
        comparison="GreaterThanOrEqualToThreshold",
    )
    alarms.add(
        f"{title}Growth",
        f"More comes into queue {queue.name} than goes out, and there is more than all workers can hold",
        (
            f"IF(FILL(sent,0)>FILL(deleted,0) AND FILL(visible,0)>{_capacity(queue, profile, is_long)},1,0)",
            {
                "sent": series.queue("NumberOfMessagesSent", name, "Sum"),
                "deleted": deleted,
                "visible": visible,
            },
        ),
        threshold=1,
        minutes=numbers.growth_minutes,
        comparison="GreaterThanOrEqualToThreshold",
    )


def _capacity(queue: PriorityQueue, profile: Profile, is_long: bool) -> int:
    """Messages that may be with workers at once."""
    workers = profile.long_workers
    if is_long and workers is not None:
        return workers.max_count * workers.slots
    return queue.numbers.function_concurrency * queue.numbers.batch_size
