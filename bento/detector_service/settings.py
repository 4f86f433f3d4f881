"""The service's settings: environment variables that begin with ``DETECTOR_``."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One field a variable: ``deadline_s`` is ``DETECTOR_DEADLINE_S``."""

    model_config = SettingsConfigDict(env_prefix="DETECTOR_", frozen=True, env_ignore_empty=True)

    runtime: Literal["auto", "torch", "openvino", "onnx", "tensorrt"] = "auto"
    """What runs the network; ``auto``: PyTorch on a GPU, else the fastest that answers as it
    does."""
    api_keys: SecretStr = SecretStr("")
    """Who may ask: keys, comma-separated, several so that they can be changed one after the
    other. None here and none in the file: everybody."""
    api_keys_file: Path | None = None
    """The same, one a line; lines with ``#`` are comments. It is read again when it changes."""
    cors_origins: str = ""
    """Origins whose pages may ask, comma-separated; ``*``: all."""
    max_body_mb: float = Field(default=64, gt=0)
    """Larger requests are refused."""
    max_megapixels: float = Field(default=27, gt=0)
    """Larger images are refused by their header."""
    max_batch_images: int = Field(default=32, ge=1)
    """How many images a request to ``/analyze_batch`` may hold."""
    max_defects: int = Field(default=1000, ge=1)
    """How many defects a reply lists, the largest first."""
    max_requests: int = Field(default=64, ge=1)
    """How many requests are taken in at once; the others are told to come again."""
    batch_size: int | None = Field(default=None, ge=1)
    """How many waiting images the network sees at once; by default 16 on a GPU and 1 on a
    processor, which gains nothing by more."""
    deadline_s: float = Field(default=30, gt=0)
    """After this a request is given up, and what is not begun of it is not done."""
    inference_log: Path | None = None
    """The folder for the record of each request, and images that a person should look at; none:
    nothing is kept."""
    log_file_mb: float = Field(default=64, gt=0)
    """A file of the log is closed when it is larger, or a day old."""
    log_budget_mb: float = Field(default=1024, gt=0)
    """The oldest files of the log go when all together are larger."""
    image_budget_mb: float = Field(default=512, ge=0)
    """The oldest images go when all together are larger."""
