"""As much of curl as the documentation uses, for machines without it."""

from __future__ import annotations

import argparse
import sys

import httpx


def main() -> int:
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("url")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", dest="body")
    parser.add_argument("-sS", dest="quiet", action="store_true")
    parser.add_argument("--fail-with-body", action="store_true")
    given = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in given.headers)
    method = given.method or ("POST" if given.body is not None else "GET")
    answer = httpx.request(method, given.url, headers=headers, content=given.body, timeout=30)
    print(answer.text)
    return 22 if given.fail_with_body and answer.is_error else 0


if __name__ == "__main__":
    sys.exit(main())
