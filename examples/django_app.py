"""A Django application whose logs are sampled: ``python examples/django_app.py 8000``, then open ``/order/7``.

``LIPSERVICE_URL`` and ``LIPSERVICE_KEY`` say where policies come from; without them everything is kept.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from wsgiref.simple_server import make_server

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "sampled": {
            "()": "lipservice_sampler.SamplingFilter",
            "service": "shop",
            "team_id": 1,
            "environment": "production",
        },
    },
    # The filter is on the handler that ships logs.
    "handlers": {"ship": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "filters": ["sampled"]}},
    "root": {"handlers": ["ship"], "level": "INFO"},
}

log = logging.getLogger("shop")


def order(request: HttpRequest, number: int) -> HttpResponse:
    """Place an order."""
    log.info("order %d placed", number)
    if number % 10 == 0:
        log.error("payment of order %d refused", number)
    return HttpResponse("placed")


urlpatterns = [path("order/<int:number>", order)]

if __name__ == "__main__":
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="of an example",  # noqa: S106
        LOGGING=LOGGING,
    )
    django.setup()
    with make_server("127.0.0.1", int(sys.argv[1]), get_wsgi_application()) as server:
        # At a regular end the sampler reports its last counts.
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
        server.serve_forever()
