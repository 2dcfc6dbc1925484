"""Where edgeconv keeps what is its own: a cache that may be deleted at any time, settings, data to keep."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The cache: ``$EDGECONV_CACHE_DIR``, else the platform's folder for caches."""
    return Path(os.environ.get("EDGECONV_CACHE_DIR") or platformdirs.user_cache_dir("edgeconv"))


def settings_folder() -> Path:
    """The user's settings (devices, targets): ``$EDGECONV_CONFIG_DIR``, else the platform's folder."""
    return Path(os.environ.get("EDGECONV_CONFIG_DIR") or platformdirs.user_config_dir("edgeconv"))


def data_folder() -> Path:
    """What is kept for good (the history): ``$EDGECONV_DATA_DIR``, else the platform's folder for data."""
    return Path(os.environ.get("EDGECONV_DATA_DIR") or platformdirs.user_data_dir("edgeconv"))
