"""Flags that say how a chat server is asked, and what that may cost."""

from __future__ import annotations

from dataclasses import dataclass

from text2grad.config.checks import above, at_least, server_address
from text2grad.schema import UserError


@dataclass(frozen=True)
class ServerConfig:
    """How a chat server is asked; the key is read from the environment and from nowhere else."""

    base_url: str = ""
    """address of the server, "" for OpenAI's own; the key is read from OPENAI_API_KEY"""
    api_version: str = ""
    """Azure with an api-version: that version; --base_url is then https://NAME.openai.azure.com"""
    temperature: float = 0.0
    """sampling temperature"""
    top_p: float = 1.0
    """nucleus"""
    max_tokens: int = 1200
    """longest reply"""
    concurrency: int = 32
    """requests under way at once; fewer while the server says that it is busy"""
    timeout_seconds: float = 60.0
    """patience for one request"""
    max_retries: int = 4
    """retries of a request that may succeed later; three times as many of a busy server"""
    max_cost: float = 0.0
    """stop before all runs of this output have cost more, in the currency of --price_file; 0: no"""
    price_file: str = ""
    """prices per million tokens, "" for text2grad/prices.json (copy it, and edit the copy)"""
    retry_failed: bool = False
    """ask again for what failed in an earlier run"""

    def __post_init__(self) -> None:
        at_least(self, 0, "temperature", "max_retries", "max_cost")
        at_least(self, 1, "concurrency", "max_tokens")
        above(self, 0, "timeout_seconds", "top_p")
        server_address(self, "base_url")
        if self.api_version and not self.base_url:
            raise UserError(f"--api_version {self.api_version}: needs --base_url of the resource")
