"""The load balancer: a reverse proxy for HTTP/1.1 in front of stateless instances (docs/load-balancer.md).

One process, one event loop, protocols on both sides: `client_connection` reads requests, `instance_connection` answers,
`exchange` is one request with its retries, `server` owns them all. What is said on the wire is decided by
`request_head`, `response_head` and `chunked`, which refuse whatever could be read in two ways.
"""
