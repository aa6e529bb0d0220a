"""One router per subject. Routers carry full paths, so that a route knows its template (metrics, logs)."""

PREFIX = "/api/v1"
