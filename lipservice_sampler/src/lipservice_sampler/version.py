"""The version of this distribution, as statistics name it."""

__version__ = "0.1.0"
