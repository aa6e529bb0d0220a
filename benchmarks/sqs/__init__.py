"""SQS: requests and CPU per task, latency, and the adapter beside bare boto3. On MiniStack, with a real PostgreSQL."""
