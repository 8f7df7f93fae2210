"""A FastAPI application whose logs are sampled: ``python examples/fastapi_app.py 8000``, then open ``/order/7``.

``LIPSERVICE_URL`` and ``LIPSERVICE_KEY`` say where policies come from; without them everything is kept.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request

from lipservice_sampler import Sampler, SamplingFilter

sampler = Sampler("shop", team_id=1, environment="production")
ship = logging.StreamHandler(sys.stdout)
ship.addFilter(SamplingFilter(sampler))
logging.basicConfig(level="INFO", handlers=[ship])
log = logging.getLogger("shop")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """While the application runs."""
    yield
    sampler.close()


app = FastAPI(lifespan=lifespan)


@app.get("/order/{number}")
async def order(number: int, request: Request) -> str:
    """Place an order; logs of one request share their fate where it belongs to a trace."""
    trace = request.headers.get("traceparent", "").split("-")[1:2]
    log.info("order %d placed", number, extra={"trace_id": trace[0]} if trace else None)
    if number % 10 == 0:
        log.error("payment of order %d refused", number)
    return "placed"


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, access_log=False)
