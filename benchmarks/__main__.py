"""Every measure of the table "Speed and memory"; `--full` with longer runs and a million stored tasks."""

from benchmarks import disk, end_to_end, growth, http_post, latency, memory, start, submissions
from benchmarks.figures import command

if __name__ == "__main__":
    command(
        [
            disk.measure,
            end_to_end.measure,
            submissions.measure,
            http_post.measure,
            latency.measure,
            memory.measure,
            start.measure,
            growth.measure,
        ],
        __doc__,
    )
