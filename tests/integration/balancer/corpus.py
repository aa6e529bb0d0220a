"""Requests that are wrong, odd or rare, raw, with the status each gets from the balancer and from Nginx."""
# ruff: noqa: E501 - one case, one line

from __future__ import annotations

from typing import NamedTuple

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"


class Case(NamedTuple):
    name: str
    request: bytes
    ours: int  # the status; 200: passed on
    nginx: int | None = None  # another status of Nginx's; None: the same
    why: str = ""  # where Nginx refuses and we do not


def head(
    *lines: bytes, target: bytes = b"/echo", method: bytes = b"POST", host: bytes = b"Host: a"
) -> bytes:
    return b"\r\n".join(
        [method + b" " + target + b" HTTP/1.1", *([host] if host else []), *lines, b"", b""]
    )


def chunked(body: bytes) -> bytes:
    return head(b"Transfer-Encoding: chunked") + body


CASES = [
    # the length of a body
    Case("both lengths", head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n" + HIDDEN, 400),
    Case("both lengths, other order", head(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n" + HIDDEN, 400),
    Case("two different lengths", head(b"Content-Length: 5", b"Content-Length: 0") + b"hello", 400),
    Case("the same length twice", head(b"Content-Length: 5", b"Content-Length: 5") + b"hello", 400),
    Case("a list of lengths", head(b"Content-Length: 5, 5") + b"hello", 400),
    Case("a length with a sign", head(b"Content-Length: +5") + b"hello", 400),
    Case("a negative length", head(b"Content-Length: -5") + b"hello", 400),
    Case("a hexadecimal length", head(b"Content-Length: 0x5") + b"hello", 400),
    Case("a length with an underscore", head(b"Content-Length: 1_0") + b"hellohello", 400),
    Case("an empty length", head(b"Content-Length: ") + HIDDEN, 400),
    Case("a length in words", head(b"Content-Length: five") + b"hello", 400),
    Case("a length beyond 64 bit", head(b"Content-Length: 18446744073709551621") + b"hello", 400),
    Case("a length with leading zeros", head(b"Content-Length: 0005") + b"hello", 200),
    Case("chunked twice", head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    Case("chunked twice in one line", head(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n", 400, 501),
    Case("chunked then identity", head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n", 400, 501),
    Case("identity", head(b"Transfer-Encoding: identity") + b"hello", 400, 501),
    Case("another coding before chunked", head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
    Case("a coding that only looks like chunked", head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n", 400, 501),
    Case("chunked in quotes", head(b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n", 400, 501),
    Case("chunked with a parameter", head(b"Transfer-Encoding: chunked;a=b") + b"0\r\n\r\n", 400, 501),
    Case("an empty coding", head(b"Transfer-Encoding: ") + b"0\r\n\r\n", 400, 501),
    Case("chunked after a vertical tab", head(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n", 400, 501),
    Case("capitals in chunked", head(b"Transfer-Encoding: CHUNKED") + b"5\r\nhello\r\n0\r\n\r\n", 200),
    Case("chunked in HTTP/1.0", b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 400),
    # chunks
    Case("a good chunk", chunked(b"5\r\nhello\r\n0\r\n\r\n"), 200),
    Case("a chunk that is longer than it says", chunked(b"4\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a chunk that is shorter than it says", chunked(b"6\r\nhello\r\n0\r\n\r\n"), 400, 200),
    Case("a size with 0x", chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a size with a sign", chunked(b"+5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a negative size", chunked(b"-1\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a size with an underscore", chunked(b"1_0\r\nhellohellohello!\r\n0\r\n\r\n"), 400),
    Case("a size beyond 64 bit", chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 400),
    Case("an empty size", chunked(b"\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a space before the size", chunked(b" 5\r\nhello\r\n0\r\n\r\n"), 400),
    Case("a space after the size", chunked(b"5 \r\nhello\r\n0\r\n\r\n"), 400, 200),
    Case("a size line that ends in LF", chunked(b"5\nhello\r\n0\r\n\r\n"), 400, 200),
    Case("chunk data that ends in LF", chunked(b"5\r\nhello\n0\r\n\r\n"), 400, 200),
    Case("a last chunk that ends in LF", chunked(b"5\r\nhello\r\n0\n\n"), 400, 200),
    Case("an extension", chunked(b'5;a=b;c="d e"\r\nhello\r\n0\r\n\r\n'), 200),
    Case("an extension with LF", chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400),
    Case("an extension with CR", chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    Case("an extension without an end", chunked(b"5;" + b"a" * 100_000), 400),
    Case("a trailer", chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), 200),
    Case("a trailer that is no header", chunked(b"5\r\nhello\r\n0\r\nnothing\r\n\r\n"), 400, 200),
    Case("a proxy's word as trailer", chunked(b"5\r\nhello\r\n0\r\nX-Real-IP: 1\r\n\r\n"), 400, 200),
    Case("a length as trailer", chunked(b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"), 400, 200),
    # lines of the head
    Case("lines that end in LF", b"POST /echo HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello", 400, 200),
    Case("one line that ends in LF", b"POST /echo HTTP/1.1\r\nHost: a\nContent-Length: 5\r\n\r\nhello", 400, 200),
    Case("an empty line of LF alone", b"GET /echo HTTP/1.1\r\nHost: a\r\n\n" + HIDDEN, 400, 200),
    Case("a CR inside a value", head(b"X-A: b\rContent-Length: 5") + b"hello", 400),
    Case("a CR instead of CRLF", b"POST /echo HTTP/1.1\rHost: a\r\n\r\n", 400),
    Case("obs-fold", head(b"X-A: b", b" c"), 400),
    Case("obs-fold with a tab", head(b"X-A: b", b"\tContent-Length: 5") + b"hello", 400),
    Case("obs-fold of a coding", head(b"Transfer-Encoding:", b" chunked") + b"0\r\n\r\n", 400),
    Case("a space before the first header", b"GET /echo HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    Case("a space before the colon", head(b"Content-Length : 5") + b"hello", 400),
    Case("a tab before the colon", head(b"Transfer-Encoding\t: chunked") + b"0\r\n\r\n", 400),
    Case("a space inside a name", head(b"X A: b"), 400),
    Case("no name", head(b": b"), 400),
    Case("no colon", head(b"nonsense"), 400, 200),
    Case("NUL in a value", head(b"X-A: b\0c"), 400),
    Case("NUL in a name", head(b"X-\0A: b"), 400),
    Case("a control character in a value", head(b"X-A: b\x01c"), 400, 200),
    Case("DEL in a value", head(b"X-A: b\x7fc"), 400, 200),
    Case("a name that is no token", head(b"X-(A): b"), 400, 200),
    Case("a name beyond ASCII", head("X-Ä: b".encode()), 400, 200),
    Case("a value beyond ASCII", head(b"X-A: \xe4\xff"), 200),
    Case("an underscore instead of a dash", head(b"Content_Length: 5", b"Transfer_Encoding: chunked"), 200),
    # the request line
    Case("two spaces", b"GET  /echo HTTP/1.1\r\nHost: a\r\n\r\n", 400, 200),
    Case("a tab", b"GET\t/echo HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Case("a space at the end", b"GET /echo HTTP/1.1 \r\nHost: a\r\n\r\n", 400, 200),
    Case("a space in the target", b"GET /e cho HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Case("no version", b"GET /echo\r\nHost: a\r\n\r\n", 400),
    Case("HTTP/0.9", b"GET /echo\r\n\r\n", 400, None),
    Case("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 400),
    Case("HTTP/1.2", b"GET /echo HTTP/1.2\r\nHost: a\r\n\r\n", 505, 200),
    Case("HTTP/1.01", b"GET /echo HTTP/1.01\r\nHost: a\r\n\r\n", 400, 200),
    Case("another protocol", b"GET /echo XTTP/1.1\r\nHost: a\r\n\r\n", 400),
    Case("a version in small letters", b"GET /echo http/1.1\r\nHost: a\r\n\r\n", 400),
    Case("a method in small letters", head(method=b"get"), 400),
    Case("a method that is no token", head(method=b"G(T"), 400),
    Case("CONNECT", head(method=b"CONNECT", target=b"a:80"), 405, 400),
    Case("TRACE", head(method=b"TRACE"), 405),
    Case("a target beyond ASCII", head(target=b"/\xe4"), 400, 502),
    Case("a fragment", head(target=b"/echo#a"), 400, 200),
    Case("NUL in the target", head(target=b"/ec\0ho"), 400),
    Case("a target without a slash", head(target=b"echo"), 400),
    Case("an absolute target", head(target=b"http://a/echo", method=b"GET"), 200),
    Case("an absolute target of another host", head(target=b"http://b/echo", method=b"GET"), 400, 200),
    Case("an absolute target of another scheme", head(target=b"ftp://a/echo", method=b"GET"), 400, 200),
    Case("OPTIONS *", head(target=b"*", method=b"OPTIONS"), 200, 400, "RFC 9112 §3.2.4 has it"),
    Case("a path above the root", head(target=b"/%2e%2e/x", method=b"GET"), 200, 400, "paths are passed on as they came; Nginx looks for files"),
    Case("GET *", head(target=b"*", method=b"GET"), 400),
    Case("one empty line before", b"\r\n" + head(method=b"GET"), 200),
    Case("many empty lines before", b"\r\n" * 50 + head(method=b"GET"), 400, 200),
    # hosts
    Case("no host", b"GET /echo HTTP/1.1\r\n\r\n", 400),
    Case("two hosts", head(b"Host: b"), 400),
    Case("the same host twice", head(b"Host: a"), 400),
    Case("a host with a slash", head(host=b"Host: a/b"), 400),
    Case("a host with a space", head(host=b"Host: a b"), 400),
    Case("a host with an at sign", head(host=b"Host: a@b"), 400, 200),
    Case("a list of hosts", head(host=b"Host: a,b"), 400, 200),
    Case("an address as host", head(host=b"Host: [::1]:80", method=b"GET"), 200),
    # what goes between neighbours
    Case("Connection names the length", head(b"Content-Length: 5", b"Connection: Content-Length") + b"hello", 400, 200),
    Case("Connection names the host", head(b"Connection: close, Host"), 400, 200),
    Case("an unknown expectation", head(b"Expect: 200-ok"), 417, 200),
    # sizes
    Case("a head that is too large", head(b"X-A: " + b"b" * 40_000), 431, 400),
    Case("too many headers", head(*[b"X-%d: a" % n for n in range(101)]), 431, 200),
    Case("a target that is too long", head(target=b"/" + b"a" * 9_000), 414),
    Case("a line that never ends", b"A" * 40_000, 414),
    # several requests
    Case("a body that looks like a request", head(b"Content-Length: %d" % len(HIDDEN)) + HIDDEN, 200),
    Case("garbage after a request", head(b"Content-Length: 5") + b"hello\0\0\0", 200),
]  # fmt: skip
