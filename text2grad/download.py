"""Files that a benchmark publishes, fetched when a run needs them and kept beside its output."""

from __future__ import annotations

import gzip
import http.client
import urllib.request
import zlib
from pathlib import Path

from text2grad.files import atomic_write
from text2grad.schema import UserError

_SECONDS = 60


def fetch(url: str, path: str | Path, flag: str, unpack: bool = False) -> str:
    """The path of a file, which is downloaded if it is not there yet.

    Args:
        url: where it is.
        path: where it is kept.
        flag: the flag that names a local file in its place, for messages.
        unpack: it is packed by gzip, and kept unpacked.

    Raises:
        UserError: it cannot be downloaded or written.
    """
    path = Path(path)
    if path.exists():
        return str(path)
    print(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as source:
            content = source.read()
        if unpack:
            content = gzip.decompress(content)
    except (OSError, http.client.HTTPException, EOFError, zlib.error) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{flag}: cannot download {url} ({reason}); fetch it elsewhere and name the file"
        ) from error
    with atomic_write(path) as out:
        out.write(content)
    return str(path)
