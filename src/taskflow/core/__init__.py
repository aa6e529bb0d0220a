"""The rules of TaskFlow: pure, no I/O, no vendor, no settings."""
