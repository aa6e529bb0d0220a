"""What can be seen of a running system: saved queries over its logs, local log files, metrics for CloudWatch.

See docs/observability.md.
"""
