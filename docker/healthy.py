"""Health check: python healthy.py URL [STATUS]. Exits with 0 if URL answers with STATUS (200), with 1 if not.

It calls as a user whom nobody knows. MLflow's /health says OK without its database, but to say 401 to a
stranger the server has to look into it; so a check needs no password, and a dead database shows.
"""

import base64
import sys
import urllib.error
import urllib.request

STRANGER = base64.b64encode(b"health-check:none").decode()


def status(url: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {STRANGER}"})
    try:
        with urllib.request.urlopen(request, timeout=4) as response:
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
