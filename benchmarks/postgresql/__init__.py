"""PostgreSQL beside what others make of it: same server, same machine, one run."""
