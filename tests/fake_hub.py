"""A local server that speaks as much of the hub's API as a download asks for, with faults on demand."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

COMMIT = "a" * 40
LFS_FROM = 500
"""Files from this size on are stored by Git LFS."""

BLOCK = 1 << 16


@dataclass
class FakeHub:
    """The state of the server.

    Args:
        repositories: name to files.
        moved: old name to new name.
        gated: repositories that answer no file.
        listing: what the API answers instead of a listing.
        corrupt: files sent with other bytes of the same number.
        cut: file to the number of bytes after which each connection is closed; stall: after which it hangs.
        requests: (method, path, first byte asked for), in order.
    """

    repositories: dict[str, dict[str, bytes]]
    moved: dict[str, str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    listing: tuple[int, bytes] | None = None
    corrupt: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    endpoint: str = ""

    def sent(self, name: str) -> list[int]:
        """The first bytes that were asked for of a file."""
        return [start for method, path, start in self.requests if method == "GET" and path.endswith(name)]

    @contextmanager
    def serve(self) -> Iterator[FakeHub]:
        """Serve while the block runs."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request from the state of the hub."""

    hub: FakeHub

    def log_message(self, *args: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0].strip("/")
        start = int(re.sub(r"\D", "", (self.headers.get("Range") or "0").partition("-")[0]))
        hub.requests.append((self.command, path, start))
        is_api = path.startswith("api/models/")
        name = "/".join(path.removeprefix("api/models/").split("/")[:2])
        if name in hub.moved:
            self.reply(307, {"Location": f"{hub.endpoint}/{path.replace(name, hub.moved[name])}"})
        elif name not in hub.repositories:  # the hub does not tell a stranger what is private
            self.reply(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif is_api:
            status, body = hub.listing or (200, json.dumps(self.describe(name)).encode())
            self.reply(status, {"Content-Length": str(len(body))}, body)
        elif name in hub.gated:
            self.reply(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": f"{name} is restricted"})
        else:
            file = path.partition(f"/resolve/{COMMIT}/")[2]
            self.send_file(hub.repositories[name][file], file, start)

    def describe(self, name: str) -> dict[str, object]:
        siblings = []
        for file, content in self.hub.repositories[name].items():
            item: dict[str, object] = {"rfilename": file, "size": len(content)}
            item["blobId"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            if len(content) >= LFS_FROM:
                digest = hashlib.sha256(content).hexdigest()
                item["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(item)
        return {
            "id": name,
            "sha": COMMIT,
            "siblings": siblings,
            "gated": "auto" if name in self.hub.gated else False,
        }

    def reply(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, content: bytes, file: str, start: int) -> None:
        size = len(content)
        if file in self.hub.corrupt:
            content = bytes(size)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        end = start + min(size, self.hub.cut.get(file, size), self.hub.stall.get(file, size))
        for first in range(start, min(end, size), BLOCK):
            self.wfile.write(content[first : min(first + BLOCK, end)])
        if file in self.hub.stall:
            time.sleep(60)
        self.close_connection = True
