"""The server: the page on an address, with a temporary folder that goes when it does.

Gradio is told here what it may serve: its own temporary folder and the audio of the output folder, nothing
else of this machine, and nothing of other machines.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from songgen.config import UiConfig
from songgen.engine.output import AUDIO_FOLDER
from songgen.models.base import SongModel
from songgen.ui.desk import MEGABYTE, Desk

ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
}
"""What Gradio reads when it is imported; its temporary folder comes on top."""

Scope = MutableMapping[str, Any]


class PageServer:
    """A page that is served while the `with` block runs.

    Args:
        model: the loaded model.
        config: the settings of `songgen ui`.

    Raises (on entering):
        OSError: the port is taken, or the output folder cannot be written.
    """

    def __init__(self, model: SongModel, config: UiConfig) -> None:
        self.model, self.config = model, config
        self.url = ""
        self.share_url: str | None = None

    def __enter__(self) -> PageServer:
        _check_port(self.config.host, self.config.port)
        audio = self.config.output.dir.resolve() / AUDIO_FOLDER
        audio.mkdir(parents=True, exist_ok=True)
        self.temporary = Path(tempfile.mkdtemp(prefix="songgen-page-"))
        self._before = {name: os.environ.get(name) for name in (*ENVIRONMENT, "GRADIO_TEMP_DIR")}
        os.environ.update(ENVIRONMENT, GRADIO_TEMP_DIR=str(self.temporary))
        self.desk = Desk(self.model, self.config, self.temporary)
        try:
            self._launch(audio)
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.close(verbose=False)
        self._clean()

    def wait(self) -> None:
        """Return when the server ends."""
        self._blocks.server.thread.join()

    def _launch(self, audio: Path) -> None:
        import gradio as gr
        from fastapi.middleware import Middleware

        from songgen.ui.page import build_page, style, theme

        gr.set_static_paths([audio])  # served as they are, instead of a copy of each
        self._blocks = build_page(self.desk)
        _stay_local(self._blocks)
        _, self.url, self.share_url = self._blocks.launch(
            server_name=self.config.host,
            server_port=self.config.port,
            share=self.config.share,
            allowed_paths=[str(audio)],
            max_file_size=self.config.max_upload_mb * MEGABYTE,
            app_kwargs={"middleware": [Middleware(NoOutsideFiles)]},
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            inbrowser=False,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            theme=theme(),
            css=style(),
        )

    def _clean(self) -> None:
        self.desk.close()
        shutil.rmtree(self.temporary, ignore_errors=True)
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class NoOutsideFiles:
    """Refuses requests that would have this server fetch a file from another machine."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answer one request: 403, or what the page answers."""
        path = str(scope.get("path", "")).lower()
        if scope["type"] == "http" and ("file=http" in path or "/proxy=" in path):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b"only files of this page are served"})
            return
        await self._app(scope, receive, send)


def _stay_local(blocks: Any) -> None:
    """Have every component refuse a client's file that is an address: Gradio would fetch it."""
    import gradio as gr

    def guarded(move: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def move_local(place: Any) -> Any:
            if "://" in str(place):
                raise gr.Error("only uploaded files are taken")
            return await move(place)

        return move_local

    for block in blocks.blocks.values():
        if hasattr(block, "async_move_resource_to_block_cache"):
            block.async_move_resource_to_block_cache = guarded(block.async_move_resource_to_block_cache)


def _check_port(host: str, port: int) -> None:
    """Raise OSError in words if nothing can listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        with suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"ui.host={host} ui.port={port}: cannot listen there ({error.strerror or error}); "
                "choose another port, such as ui.port=7861"
            ) from error
