"""CloudWatch Logs Insights' query language over local JSON log lines: the part of it that the saved queries use.

What there is: the commands ``fields, filter, stats … by, sort, limit, display``, once ``stats``; comparisons, ``like``
(a text or /a regular expression/), ``in [...]``, ``and or not``, arithmetic; the functions ``ispresent, isempty, abs,
floor, ceil, strcontains, tolower, toupper, bin`` and in ``stats`` ``count, count_distinct, sum, avg, min, max, pct,
earliest, latest``; comments after ``#``. Everything else (``parse, dedup, pattern, diff, join, unnest, …``) is refused
with InvalidRequestError, never ignored.

Where it differs: ``pct`` is exact (nearest rank), AWS's approximate above some hundred values; ``count_distinct``
likewise; a comparison with a missing field is false; numbers have four decimals; an event is one JSON object, fields
inside fields are written ``a.b``. `@timestamp` is the line's ``ts``, `@message` the line. That AWS accepts the
same text can only be seen on AWS.
"""

from taskflow.observability.insights.evaluate import Answer, columns_of, evaluate
from taskflow.observability.insights.lines import events_of
from taskflow.observability.insights.parser import parse

__all__ = ["Answer", "columns_of", "evaluate", "events_of", "parse"]
