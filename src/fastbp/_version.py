"""The version, in the only place that states it; pyproject.toml reads it from this text."""

__version__ = "0.1.0"
