"""The third demo team, vehicles on the road: a gateway in key=value, device sync, a scheduler, and video."""

from __future__ import annotations

from lipservice_dagster.local.demo_services import Pattern, Service, Team, flat, night, rare

_GATEWAY = Service(
    "ingest-gateway",
    peak=10,
    weekend=0.6,
    logger="gateway",
    pods=5,
    patterns=(
        Pattern(
            "ts=${iso} level=info msg=accepted device=dev-${hex:12} topic=telemetry/${pick:gps*6|engine*3|door} "
            "bytes=${around:420} seq=${int:1-90000}",
            4300,
        ),
        Pattern(
            "ts=${iso} level=debug msg=decoded codec=${pick:cbor*4|json} fields=${int:4-40} took_us=${around:90}",
            3600,
            "debug",
        ),
        Pattern("ts=${iso} level=debug msg=enqueue partition=${int:0-63} offset=${int:1000000-9000000}", 3200, "debug"),
        Pattern('ts=${iso} level=warn msg="clock skew" device=dev-${hex:12} skew_s=${int:60-9000}', 120, "warn"),
        Pattern('ts=${iso} level=warn msg="duplicate sequence" device=dev-${hex:12} seq=${int:1-90000}', 140, "warn"),
        Pattern(
            'ts=${iso} level=error msg="decode failed" device=dev-${hex:12} err="unexpected ${pick:EOF*3|tag 0x1f}" '
            "bytes=${int:1-300}",
            40,
            "error",
        ),
        Pattern('ts=${iso} level=error msg="broker time-out" partition=${int:0-63} after_ms=5000', 58, "error"),
        Pattern("ts=${iso} level=info msg=connected device=dev-${hex:12} remote=${ip:}:${int:1024-65000} tls=1.3", 520),
        Pattern(
            "ts=${iso} level=info msg=disconnected device=dev-${hex:12} reason=${pick:keepalive*3|client|reset}", 500
        ),
        flat("ts=${iso} level=debug msg=healthz status=200", 1700, "debug"),
        flat(
            "ts=${iso} level=info msg=stats conns=${int:3000-9000} goroutines=${int:9000-27000} heap_mb=${int:300-700}",
            500,
        ),
        rare('ts=${iso} level=warn msg="certificate revoked" device=dev-${hex:12} serial=${hex:16}', 3, "warn"),
    ),
)

_SYNC = Service(
    "device-sync",
    peak=9,
    weekend=0.65,
    logger="sync.engine",
    staging=0.1,
    traced=0.4,
    patterns=(
        Pattern(
            "sync started for device dev-${hex:12}: firmware 4.${int:0-9}.${int:0-30}, ${int:1-400} pending records",
            900,
        ),
        Pattern("sync finished for device dev-${hex:12}: ${int:1-400} records in ${around:1800} ms", 880),
        Pattern(
            "chunk ${int:1-64}/${int:64-128} of dev-${hex:12} stored at /data/chunks/${hex:2}/${hex:14}.bin",
            2500,
            "debug",
        ),
        Pattern("conflict on record ${uuid}: kept ${pick:device*3|server} version", 130, "warn"),
        Pattern("firmware update offered to dev-${hex:12}: 4.${int:0-9}.${int:0-30}", 65),
        Pattern("sync aborted for device dev-${hex:12}: ${pick:connection lost*5|storage quota exceeded}", 45, "warn"),
        Pattern(
            "checksum mismatch in chunk ${int:1-64} of dev-${hex:12}: expected ${hex:8}, got ${hex:8}", 12, "error"
        ),
        Pattern(
            "Exception in worker thread sync-${int:1-8}\njava.util.concurrent.TimeoutException: "
            "no acknowledgement from dev-${hex:12}\n"
            "\tat com.fleet.sync.Session.await(Session.java:${pick:155*3|171})\n"
            "\tat com.fleet.sync.Engine.push(Engine.java:88)\n"
            "\tat java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:1144)",
            7,
            "error",
        ),
        flat("GET /internal/health 200 ${int:0-5}ms", 1300, "debug"),
        night("compacted ${int:2000-9000} chunks, freed ${around:900} MB", 10),
        rare("quota of customer ${int:100-999} raised to ${pick:50|100|500} GB by ${name}", 2),
    ),
)

_SCHEDULER = Service(
    "route-scheduler",
    peak=5,
    weekend=0.35,
    logger="scheduler",
    pods=2,
    patterns=(
        Pattern(
            "[planner-${int:1-4}] planned route R${digits:6} for vehicle ${code:7}: ${int:4-40} stops, ${dec:8-300} km",
            620,
        ),
        Pattern(
            "[planner-${int:1-4}] solver iteration ${int:1-900} cost=${dec:100-9000} temperature=0.${digits:4}",
            2900,
            "debug",
        ),
        Pattern("[eta] vehicle ${code:7} stop ${int:1-40} eta ${iso} drift ${int:0-900} s", 1500),
        Pattern(
            "[planner-${int:1-4}] no feasible route for order ${int:100000-999999}: ${pick:time window*4|capacity}",
            50,
            "warn",
        ),
        Pattern(
            "[geo] geocoder answered ${pick:429*4|500} for '${pick:Main St|Hafenstrasse|ul. Dluga} ${int:1-200}', using"
            " cache",
            70,
            "warn",
        ),
        Pattern("[planner-${int:1-4}] solver crashed: matrix is singular at row ${int:1-900}", 5, "error"),
        flat("[cron] job=refresh-traffic finished in ${around:600} ms, ${int:2000-4000} segments", 1800),
        flat("[cron] job=expire-locks removed ${int:0-4} locks", 1440, "debug"),
        night("[cron] job=rebuild-graph finished in ${around:95000} ms, ${int:2000000-2100000} edges", 2),
        rare("[cron] job=holiday-calendar loaded ${int:9-16} days for ${pick:DE|PL|PT}", 1),
    ),
)

_VIDEO = Service(
    "video-encoder",
    peak=16,
    weekend=0.8,
    logger="encoder",
    patterns=(
        Pattern("clip ${uuid} queued camera=${pick:front*3|rear|cabin} length=${int:5-60}s", 330),
        Pattern("clip ${uuid} encoded h265 ${int:5-60}s in ${around:5200} ms, ${dec:1-40} MB", 320),
        Pattern("frame ${int:1-1800} of clip ${uuid}: qp=${int:18-40} psnr=${dec:30-46}", 3600, "debug"),
        Pattern("clip ${uuid} uploaded to s3://fleet-clips/${digits:4}/${uuid}.mp4 etag=${hex:32}", 315),
        Pattern("dropped ${int:1-20} late frames in clip ${uuid}", 55, "warn"),
        Pattern(
            "Traceback (most recent call last):\n"
            '  File "/opt/encoder/main.py", line 77, in encode\n    stream = open_container(path)\n'
            '  File "/opt/encoder/container.py", line ${pick:19*3|24}, in open_container\n'
            "    raise InvalidDataError(path)\nencoder.InvalidDataError: /spool/${hex:16}.h264: moov atom not found",
            6,
            "error",
        ),
        flat("gpu ${int:0-3} utilisation ${int:0-100}% temperature ${int:40-84}C memory ${int:1000-22000} MiB", 1440),
        rare("gpu ${int:0-3} throttled at ${int:85-92}C", 2, "warn"),
    ),
)

FLEET = Team(
    "Fleetline",
    (_GATEWAY, _SYNC, _SCHEDULER, _VIDEO),
    spiking="ingest-gateway",
    failing=("ingest-gateway", 'ts=${iso} level=error msg="broker time-out"'),
    released=(
        "device-sync",
        Pattern("Delta sync unsupported by dev-${hex:12} (bootloader ${int:1-3}.${int:0-9}), full sync", 0),
    ),
    stopping=("route-scheduler", "[cron] job=refresh-traffic finished"),
)
