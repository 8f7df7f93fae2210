"""The first demo team, a shop: access logs, checkout with payments, a worker, and audit records as JSON."""

from __future__ import annotations

from lipservice_dagster.local.demo_services import Pattern, Service, Team, flat, night, rare

_ACCESS = '${ip:} - - [${clf}] "'

_STOREFRONT = Service(
    "storefront-web",
    peak=18,
    weekend=0.85,
    logger="nginx.access",
    pods=4,
    traced=0.6,
    patterns=(
        Pattern(
            _ACCESS + 'GET /products/${int:1000-99999} HTTP/1.1" 200 ${around:18000} "-" "${agent}" rt=0.${digits:3}',
            3100,
        ),
        Pattern(
            _ACCESS + 'GET /search?q=${pick:shoes|lamp|usb+cable|tea|desk}&page=${int:1-9} HTTP/1.1" 200 ${around:9000}'
            ' "-" "${agent}" rt=0.${digits:3}',
            1300,
        ),
        Pattern(
            _ACCESS + 'GET /static/js/app.${hex:8}.js HTTP/1.1" ${pick:200|304*5} ${around:90000} "-" "${agent}"', 1900
        ),
        Pattern(
            _ACCESS + 'POST /api/cart/${uuid}/items HTTP/1.1" 201 ${around:400} "-" "${agent}" rt=0.${digits:3}', 620
        ),
        Pattern(
            _ACCESS + 'GET /api/recommendations?user=${int:1-500000} HTTP/1.1" 200 ${around:5000} "-" "${agent}"', 900
        ),
        Pattern(_ACCESS + 'GET /products/${int:1000-99999} HTTP/1.1" 404 153 "-" "Googlebot/2.1"', 90, "warn"),
        Pattern(_ACCESS + 'GET /wp-login.php HTTP/1.1" 404 153 "-" "${pick:curl/8.9.1|zgrab/0.x}"', 25, "warn"),
        Pattern(
            "upstream timed out (110: Connection timed out) while reading response header from upstream,"
            ' client: ${ip:}, server: shop.example.com, request: "GET /products/${int:1000-99999} HTTP/1.1",'
            ' upstream: "http://${ip:10.4.}:8080/products"',
            14,
            "error",
        ),
        Pattern(
            _ACCESS + 'POST /api/checkout HTTP/1.1" 502 ${int:150-170} "-" "${agent}" rt=${int:5-30}.${digits:3}',
            8,
            "error",
        ),
        flat('${ip:10.4.} - - [${clf}] "GET /healthz HTTP/1.1" 200 2 "-" "kube-probe/1.31" rt=0.000', 1500, "debug"),
        rare("reopening logs after SIGUSR1 from pid ${int:2-400}", 2, "info"),
        rare(
            "SSL_do_handshake() failed (SSL: error:0A00006C:SSL routines::bad key share) while SSL handshaking,"
            " client: ${ip:}",
            4,
            "warn",
        ),
    ),
)

_CHECKOUT = Service(
    "checkout",
    peak=19,
    weekend=0.8,
    logger="com.example.checkout.CheckoutController",
    traced=0.9,
    patterns=(
        Pattern(
            "Order ord_${code:10} created for customer ${int:1000-900000} total=${dec:5-900} EUR items=${int:1-12}", 880
        ),
        Pattern(
            "Payment authorised for order ord_${code:10}: amount=${dec:5-900} EUR gateway=${pick:adyen*3|stripe} "
            "auth=${digits:6} in ${around:380} ms",
            820,
        ),
        Pattern("Payment captured for order ord_${code:10}", 800),
        Pattern("Calling gateway ${pick:adyen*3|stripe} POST /v68/payments idempotency=${uuid}", 900, "debug"),
        Pattern("Cart ${uuid} priced: ${int:1-12} items, discount ${dec:0-40} EUR, tax ${dec:0-90} EUR", 1700, "debug"),
        Pattern(
            "Inventory reserved sku=SKU-${digits:6} quantity=${int:1-5} warehouse=${pick:ams|waw|lis}", 1300, "debug"
        ),
        Pattern(
            "Payment declined for order ord_${code:10}: ${pick:insufficient_funds*4|expired_card|do_not_honor*2}",
            60,
            "warn",
        ),
        Pattern("Retrying gateway adyen, attempt ${int:2-3} of 3, after ${around:900} ms", 40, "warn"),
        Pattern(
            "Gateway time-out for order ord_${code:10}: adyen did not answer within 10000 ms, amount=${dec:5-900} EUR",
            60,
            "error",
        ),
        Pattern(
            "Payment failed for order ord_${code:10}\n"
            "com.example.checkout.PaymentException: gateway answered ${pick:500|502|503*3}\n"
            "\tat com.example.checkout.GatewayClient.charge(GatewayClient.java:${pick:118*4|131})\n"
            "\tat com.example.checkout.PaymentService.authorise(PaymentService.java:74)\n"
            "\tat com.example.checkout.CheckoutController.post(CheckoutController.java:203)\n"
            "\tat java.base/java.lang.Thread.run(Thread.java:1583)\n"
            "Caused by: java.io.IOException: HTTP/1.1 header parser received no bytes\n"
            "\tat java.net.http/jdk.internal.net.http.HttpClientImpl.send(HttpClientImpl.java:966)\n"
            "\t... 23 more",
            9,
            "error",
        ),
        flat("GET /actuator/health 200 ${int:1-9} ms", 1100, "debug"),
        rare("Feature flags refreshed: ${int:40-60} flags, version ${hex:7}", 6),
        rare("Connection pool exhausted: 50 of 50 connections in use, ${int:1-30} threads waiting", 1, "error"),
        night("Expired ${int:100-900} abandoned carts older than 30 days in ${around:2200} ms", 12),
    ),
)

_ORDER_WORKER = Service(
    "order-worker",
    peak=20,
    weekend=0.8,
    logger="worker.tasks",
    staging=0.15,
    patterns=(
        Pattern(
            "job=${uuid} queue=${pick:emails*3|invoices|stock} state=started attempt=1 wait_ms=${around:120}", 1400
        ),
        Pattern(
            "job=${uuid} queue=${pick:emails*3|invoices|stock} state=done duration_ms=${around:450} attempt=1", 1370
        ),
        Pattern(
            "job=${uuid} queue=${pick:emails|invoices|stock*3} state=retry attempt=${int:2-5}"
            ' backoff_s=${pick:2|4|8|16} reason="${pick:lock timeout|connection reset by peer}"',
            70,
            "warn",
        ),
        Pattern(
            'job=${uuid} queue=invoices state=failed attempt=5 error="template invoice_v${int:2-4} not found"',
            6,
            "error",
        ),
        Pattern(
            "sent email template=${pick:order_confirmation*5|shipping_notice*3|password_reset} to=${email} "
            "message_id=<${hex:24}@mail.example.com>",
            950,
        ),
        Pattern(
            "stock level sku=SKU-${digits:6} warehouse=${pick:ams|waw|lis} on_hand=${int:0-400} reserved=${int:0-40}",
            1500,
            "debug",
        ),
        flat("polled queue=${pick:emails|invoices|stock} received=${int:0-10} visible=${int:0-200}", 4100, "debug"),
        flat("heartbeat worker=order-worker-${int:0-5} rss_mb=${int:180-260} inflight=${int:0-8}", 1900),
        Pattern(
            "Traceback (most recent call last):\n"
            '  File "/app/worker/tasks.py", line ${pick:88*3|97}, in run\n    self.handle(job)\n'
            '  File "/app/worker/invoices.py", line 41, in handle\n    pdf = render(order, template)\n'
            '  File "/usr/local/lib/python3.12/site-packages/render/core.py", line ${int:200-260}, in render\n'
            '    raise RenderError(f"font {name} missing")\nrender.RenderError: font Inter-${int:300-700} missing',
            5,
            "error",
        ),
        night(
            "nightly stock reconciliation: ${int:20000-30000} skus compared, ${int:0-60} corrected,"
            " took ${around:41} s",
            6,
        ),
        rare("dead letter queue has ${int:1-20} messages", 3, "warn"),
        rare("shutting down on SIGTERM: draining ${int:0-8} jobs", 3),
    ),
)

_AUTH = Service(
    "auth",
    peak=17,
    weekend=0.9,
    logger="auth.audit",
    traced=0.3,
    patterns=(
        Pattern(
            '{"ts":"${iso}","event":"login","result":"success","user":"${email}","ip":"${ip:}","mfa":${pick:true|false}}',
            760,
        ),
        Pattern(
            '{"ts":"${iso}","event":"login","result":"failure","reason":"bad_password","user":"${email}","ip":"${ip:}"}',
            110,
            "warn",
        ),
        Pattern(
            '{"ts":"${iso}","event":"token.refresh","client":"${pick:web*4|ios*2|android}","user_id":${int:1-500000}}',
            1250,
        ),
        Pattern(
            '{"ts":"${iso}","event":"session.verify","session":"${hex:32}","cache":"${pick:hit*9|miss}"}', 2100, "debug"
        ),
        Pattern('{"ts":"${iso}","event":"account.locked","user":"${email}","attempts":${int:5-9}}', 6, "warn"),
        Pattern(
            '{"ts":"${iso}","event":"ldap.error","code":${pick:49|51|81*3},"message":"server unavailable"}', 4, "error"
        ),
        flat('{"ts":"${iso}","event":"health","status":"ok","uptime_s":${int:1000-900000}}', 1000, "debug"),
        rare('{"ts":"${iso}","event":"role.granted","actor":"${email}","user":"${email}","role":"admin"}', 4),
        rare('{"ts":"${iso}","event":"key.rotated","kid":"${hex:16}","alg":"ES256"}', 1),
    ),
)

HARBOUR = Team(
    "Harbour Store",
    (_STOREFRONT, _CHECKOUT, _ORDER_WORKER, _AUTH),
    spiking="storefront-web",
    failing=("checkout", "Gateway time-out for order"),
    released=(
        "checkout",
        Pattern("Loyalty points skipped for order ord_${code:10}: tier '${pick:gold|silver}' unknown", 0),
    ),
    stopping=("order-worker", "heartbeat worker="),
)
