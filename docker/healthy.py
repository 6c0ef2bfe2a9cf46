"""Health check: python healthy.py URL [STATUS]. Exits with 0 if URL answers with STATUS (200), else with 1.

It sends the log-in of a user that does not exist. MLflow answers /health without its database, but it must
query the database to answer 401 to this user. So the check needs no password, and it fails when the database
is down.
"""

import base64
import sys
import urllib.error
import urllib.request

UNKNOWN_USER = base64.b64encode(b"health-check:none").decode()


def status(url: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {UNKNOWN_USER}"})
    try:
        with urllib.request.urlopen(request, timeout=4) as response:  # nosec B310 # no user gives an address
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


if __name__ == "__main__":
    url, expected = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    try:
        found: object = status(url)
    except OSError as error:
        found = error
    sys.exit(None if found == expected else f"{url}: expected {expected}, found {found}")
