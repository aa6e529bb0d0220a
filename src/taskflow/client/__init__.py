"""TaskFlow over HTTP: `Client("http://localhost:8000").submit("send_email", to="…")`."""

from taskflow.client.client import Client

__all__ = ["Client"]
