"""The second demo team, a payment provider: JSON requests, a ledger, a scorer, webhooks."""

from __future__ import annotations

from lipservice_dagster.local.demo_services import Pattern, Service, Team, flat, night, rare

_PAYMENTS_API = Service(
    "payments-api",
    peak=14,
    weekend=0.55,
    logger="io.cobalt.payments.api",
    traced=0.9,
    pods=4,
    patterns=(
        Pattern(
            '{"time":"${iso}","method":"POST","path":"/v1/charges","status":201,"duration_ms":${around:140},'
            '"request_id":"req_${hex:16}","merchant":"mch_${digits:5}"}',
            2300,
        ),
        Pattern(
            '{"time":"${iso}","method":"GET","path":"/v1/charges/ch_${hex:20}","status":200,"duration_ms":${around:22},'
            '"request_id":"req_${hex:16}"}',
            2600,
        ),
        Pattern(
            '{"time":"${iso}","method":"POST","path":"/v1/refunds","status":${pick:201*9|409},'
            '"duration_ms":${around:160},"request_id":"req_${hex:16}"}',
            210,
        ),
        Pattern(
            '{"time":"${iso}","method":"GET","path":"/v1/balance","status":429,"request_id":"req_${hex:16}",'
            '"merchant":"mch_${digits:5}"}',
            70,
            "warn",
        ),
        Pattern(
            "charge ch_${hex:20} authorised amount=${int:100-90000} currency=${pick:EUR*5|GBP*2|PLN} scheme="
            "${pick:visa*3|mastercard*2|amex} acquirer_ms=${around:310}",
            2100,
        ),
        Pattern("idempotency key ${uuid} stored for 24 h", 1900, "debug"),
        Pattern("routing charge ch_${hex:20} to acquirer ${pick:north*3|west} score=0.${digits:3}", 2200, "debug"),
        Pattern(
            "acquirer time-out: gateway ${pick:north*3|west} gave no answer to charge ch_${hex:20} within 8000 ms,"
            " amount=${int:100-90000}",
            62,
            "error",
        ),
        Pattern("charge ch_${hex:20} declined: code=${pick:05*3|51*4|54|61}", 180, "warn"),
        Pattern(
            "Unhandled exception for request req_${hex:16}\njava.lang.IllegalStateException: ledger entry "
            "le_${hex:12} already settled\n"
            "\tat io.cobalt.payments.ledger.Ledger.settle(Ledger.java:${pick:212*3|240})\n"
            "\tat io.cobalt.payments.api.ChargeHandler.handle(ChargeHandler.java:96)\n"
            "\tat io.netty.channel.ChannelHandlerContext.invokeChannelRead(ChannelHandlerContext.java:444)\n"
            "\tat java.base/java.lang.Thread.run(Thread.java:1583)",
            8,
            "error",
        ),
        flat('{"time":"${iso}","method":"GET","path":"/health","status":200,"duration_ms":${int:0-3}}', 1800, "debug"),
        rare("certificate for ${pick:north|west}.acquirer.example expires in ${int:10-29} days", 2, "warn"),
        rare("circuit breaker ${pick:north|west} half-open after ${int:30-90} s", 2, "warn"),
    ),
)

_LEDGER = Service(
    "ledger",
    peak=15,
    weekend=0.6,
    logger="io.cobalt.ledger",
    traced=0.5,
    patterns=(
        Pattern("posted entry le_${hex:12} debit=acc_${digits:8} credit=acc_${digits:8} amount=${dec:1-900} EUR", 2300),
        Pattern("balance acc_${digits:8} cached version=${int:1-90000}", 2400, "debug"),
        Pattern("lock wait ${around:60} ms on acc_${digits:8}", 130, "warn"),
        Pattern("deadlock detected on acc_${digits:8}, retrying transaction ${int:100000-999999}", 12, "error"),
        Pattern(
            "snapshot ${int:1000-9999} of shard ${int:0-15} written: ${int:2000-9000} accounts in ${around:900} ms", 320
        ),
        flat("wal flush lsn=${hex:8}/${hex:8} bytes=${around:64000}", 2800, "debug"),
        flat("replica lag ${int:0-40} ms on ledger-replica-${int:0-2}", 1440),
        night("end-of-day close for ${pick:EUR|GBP|PLN}: ${int:40000-90000} entries balanced, difference 0.00", 3),
        night("archived partition entries_${digits:6}, ${around:80000} rows, ${around:340} MB", 8),
        rare("entry le_${hex:12} has no counterpart; moved to suspense account", 2, "error"),
        rare("schema version ${int:200-240} verified", 3),
    ),
)

_FRAUD = Service(
    "fraud-scorer",
    peak=13,
    weekend=0.7,
    logger="fraud.scoring",
    patterns=(
        Pattern(
            "scored charge=ch_${hex:20} model=gbm-${pick:41*4|42} score=0.${digits:4} decision=${pick:allow*19|review} "
            "features=${int:180-220} took_us=${around:900}",
            2250,
        ),
        Pattern("feature store lookup keys=${int:3-30} hit_ratio=0.${digits:2} took_us=${around:400}", 2300, "debug"),
        Pattern(
            "rule ${pick:velocity*4|geo_mismatch*2|new_device} fired for card card_${hex:14}"
            " country=${pick:DE|PL|FR|US}",
            210,
            "warn",
        ),
        Pattern("review case ${int:100000-999999} opened for merchant mch_${digits:5}", 55),
        Pattern("model input out of range: feature ${pick:amount_z|age_days} = ${dec:4-90}, clipped", 45, "warn"),
        Pattern(
            "Traceback (most recent call last):\n"
            '  File "/srv/fraud/scoring.py", line 132, in score\n    vector = encoder.transform(row)\n'
            '  File "/srv/fraud/encoder.py", line ${pick:57*3|61}, in transform\n'
            "    return self.table[row.country]\nKeyError: '${pick:XK*3|AQ}'",
            7,
            "error",
        ),
        flat("GET /ready 200", 1400, "debug"),
        rare("drift of feature ${pick:amount_z|age_days|velocity_1h}: psi=0.${digits:3}", 4, "warn"),
        rare("model gbm-${pick:41|42} loaded from s3://cobalt-models/gbm/${hex:10}.bin in ${around:3100} ms", 3),
    ),
)

_NOTIFIER = Service(
    "notifier",
    peak=12,
    weekend=0.5,
    logger="notifier",
    patterns=(
        Pattern(
            "webhook delivered event=evt_${hex:18} type=${pick:charge.succeeded*6|refund.created|payout.paid} "
            "status=200 attempt=1 took=${around:240}ms",
            1900,
        ),
        Pattern(
            "webhook failed event=evt_${hex:18} status=${pick:500*2|503*3|404} attempt=${int:1-6}"
            " next_in=${int:10-900}s",
            95,
            "warn",
        ),
        Pattern(
            "webhook given up event=evt_${hex:18} endpoint=https://hooks.example.com/${hex:8} after 8 attempts",
            5,
            "error",
        ),
        Pattern("dns lookup hooks-${int:1-40}.example.com took ${around:4} ms", 600, "debug"),
        flat("tick: ${int:0-50} pending, ${int:0-8} in flight", 1440),
        Pattern("connection to hooks-${int:1-40}.example.com reused, ${int:1-90} requests so far", 700, "debug"),
        rare("signing secret of mch_${digits:5} rolled, old one valid until ${iso}", 2),
        rare("rate limit for merchant mch_${digits:5} raised to ${pick:50|100|200}/s by ${name}", 2),
    ),
)

COBALT = Team(
    "Cobalt Payments",
    (_PAYMENTS_API, _LEDGER, _FRAUD, _NOTIFIER),
    spiking="fraud-scorer",
    failing=("payments-api", "acquirer time-out"),
    released=(
        "ledger",
        Pattern("Rounding mode changed for acc_${digits:8}: HALF_UP to HALF_EVEN, delta 0.0${int:1-9} EUR", 0),
    ),
    stopping=("notifier", "tick:"),
)
