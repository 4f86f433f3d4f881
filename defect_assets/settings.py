"""YAML files that people write, validated."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from defect_assets.errors import UserError

Settings = TypeVar("Settings", bound=BaseModel)


class SettingsError(UserError):
    """A file that cannot be used; the message names the file and the key."""


def read_settings(path: Path, model: type[Settings]) -> Settings:
    """Read a YAML file as a model.

    Raises
    ------
    SettingsError
        If the file is missing, no YAML, or not what the model describes.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text()) or {})
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with a file, key by key."""
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()
    )
