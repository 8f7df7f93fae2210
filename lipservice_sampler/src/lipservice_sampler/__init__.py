"""What decides at the edge is what the backtest replays: masks, matching, sampling decisions; standard library only.

In an application, `SamplingFilter` goes on a handler of `logging`; `Sampler.decide` is for everything else, and
`lipservice_sampler.adapters` holds what structlog, loguru and OpenTelemetry need.
"""

from .logging_filter import SamplingFilter
from .sampler import Sampler
from .version import __version__

__all__ = ["Sampler", "SamplingFilter", "__version__"]
