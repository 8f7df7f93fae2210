"""Ends with 0 where a URL answers with 200: the health check of services that speak HTTP."""

import sys
import urllib.request

with urllib.request.urlopen(sys.argv[1], timeout=5) as answer:  # noqa: S310  the compose file says which
    sys.exit(answer.status != 200)
