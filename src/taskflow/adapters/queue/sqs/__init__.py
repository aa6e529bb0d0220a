"""The task queue on Amazon SQS: one standard queue and one dead-letter queue per priority. See docs/aws-queue.md."""
