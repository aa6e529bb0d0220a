"""What an embedded `TaskFlow` and a `Client` have in common: one set of calls, wherever the tasks are."""
