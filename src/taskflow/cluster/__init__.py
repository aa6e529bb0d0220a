"""`taskflow cluster`: API instances, workers, PostgreSQL and an emulator of AWS on this machine, one process each."""
