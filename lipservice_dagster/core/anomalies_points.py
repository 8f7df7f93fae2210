"""Which points of count series are out of the ordinary, each judged by the points before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from scipy import special
from scipy.signal import lfilter

from lipservice_dagster.core.anomalies_rhythm import predict, schemes

WINDOW_DAYS = 28
PRIOR_DISPERSION = 0.05
PRIOR_POINTS = 8.0
LEAST_DISPERSION = 5e-4
CLIP = 3.5
TRIALS_0, TRIALS_1 = 4.3, 0.32
RUN_POWER, RUN_PRIOR = 0.6, 5.0
PRIOR_DAYS = 20.0
SUFFIX = 0.4
RELAPSE = 0.5
CALM = 1.0
BLOCKS = 4
RECENT = 4.0
CORR = 0.7
_TINY = 1e-12
_HALF_LIVES = (0.0, 2.0, 8.0, 24.0)
_POWERS = (0.5, 1.0)


@dataclass(frozen=True)
class Judged:
    expected: np.ndarray
    log_rate: np.ndarray  # ln of false alarms a day at least as strong
    up: np.ndarray
    raw: np.ndarray
    debug: dict


def run_lengths(n: int) -> tuple[int, ...]:
    top = max(n, 7)
    return tuple(m for m in (1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 96, 144, 288, 576, 1440) if m <= top)


def tail_z(observed, mean, weight, dispersion, df, unit, upper):
    known = np.maximum(mean / unit, 0) / weight + 0.5
    mu = known * weight
    k = observed / unit
    size = 1.0 / (1.0 / known + dispersion * (1 + weight))
    share = mu / (mu + size)
    if upper:
        p = special.betainc(np.maximum(k + 0.5, 1e-9), size, share)
        p = np.where(k <= 0, np.maximum(p, 0.5), p)
    else:
        p = special.betainc(size, k + 0.5, 1 - share)
    z = -special.ndtri(np.clip(p, 1e-300, 1 - 1e-16))
    zt = np.sign(z) * np.sqrt(df * np.log1p(z**2 / df)) * (8 * df + 1) / (8 * df + 3)
    return np.where(z > 0, zt, z)


def ewm(x, half_life):
    return lfilter([1.0], [1.0, -(0.5 ** (1 / half_life))], x, axis=-1)


def lag(x, k, fill=0.0):
    if k == 0:
        return x
    out = np.full_like(x, fill)
    out[..., k:] = x[..., :-k] if k < x.shape[-1] else 0
    return out


def run_sum(x, k):
    if k == 1:
        return x
    c = np.cumsum(x, axis=-1)
    return c - lag(c, k)


def div(a, b, o=0.0):
    return np.where(b > _TINY, a / np.where(b > _TINY, b, 1.0), o)


def judge(values: np.ndarray, days: Sequence[date], first: int = 1) -> Judged:
    """``values`` (S, D, n), NaN where not known; ``days`` the D calendar days."""
    s, d_all, n = values.shape
    known_all = ~np.isnan(values)
    filled = np.nan_to_num(values)
    has_all = known_all.mean(axis=2) >= 0.5
    raw_out = np.full((s, d_all, n), np.inf)
    expected_out = np.full((s, d_all, n), np.nan)
    up_out = np.zeros((s, d_all, n), dtype=bool)
    blocks = int(BLOCKS) if n >= 24 else 1
    tops = np.full((s, d_all), -np.inf)
    run_tops = {}
    log_rate = np.full((s, d_all, n), np.inf)
    window_days = WINDOW_DAYS if n > 1 else 91
    first_day = known_all[:, 0]
    filled[:, 0] = np.where(first_day, filled[:, 0], div(filled[:, 0].sum(1), first_day.sum(1))[:, None])
    memory = [np.full(s, -20.0), np.zeros(s), np.full(s, -20.0)]
    debug = {"phis": {}, "zs": {}, "mean": expected_out.copy()}
    for d in range(1, d_all):
        lo = max(0, d - window_days)
        has = has_all[:, lo:d]
        y = filled[:, lo:d]
        base_y = np.where(has[:, :, None], y, 0.0)
        p = predict(base_y, has, schemes(days[lo:d], days[d]))
        own_mean = base_y.sum(axis=(1, 2)) / np.maximum(has.sum(axis=1) * n, 1)
        left = np.where(p.valid[:, :, None] | (p.left_out.sum(axis=2, keepdims=True) > 0), p.left_out, own_mean[:, None, None])
        base = np.concatenate([left, p.today[:, None]], axis=1).reshape(s, -1)
        known = known_all[:, lo : d + 1].reshape(s, -1)
        raw = np.nan_to_num(values[:, d])
        now = slice(base.shape[1] - n, None)
        v = known.astype(float)
        past = v.copy()
        past[:, now] = 0
        weight = p.weight
        inflate = 1 + p.left_out_weight.mean(axis=1)
        # clip today
        series = np.concatenate([y, raw[:, None]], axis=1).reshape(s, -1) * v
        err2 = (past * (series - base) ** 2).sum(1)
        e1, e2 = (past * base).sum(1), (past * base**2).sum(1)
        cnt = past.sum(1)
        phi0 = div(err2 - e1, e2)
        phi0 = np.maximum((PRIOR_POINTS * PRIOR_DISPERSION + cnt * phi0) / (PRIOR_POINTS + cnt), LEAST_DISPERSION)
        ratio = _median_ratio(series, base * v, n)[:, now]
        hull_lo, hull_hi = np.minimum(ratio, 1) * base[:, now], np.maximum(ratio, 1) * base[:, now]
        sd = lambda m: np.sqrt(m + phi0[:, None] * m**2 + 0.25)
        clipped = np.clip(raw, np.maximum(hull_lo - CLIP * sd(hull_lo), 0), hull_hi + CLIP * sd(hull_hi))
        if cnt.min() < n:
            clipped = np.where((cnt >= n)[:, None], clipped, raw)
        series[:, now] = clipped * v[:, now]
        # fill for later
        kd = known_all[:, d]
        r = div((clipped * kd).sum(1), (p.today * kd).sum(1), 1.0)
        filled[:, d] = np.where(kd, clipped, p.today * r[:, None])
        # levels
        factors = [np.ones_like(base)]
        for h in sorted({max(h * n / 24, 1.0) for h in _HALF_LIVES}):
            seen, usual = lag(ewm(series, h), 1), lag(ewm(base * v, h), 1)
            q = np.clip((seen + 0.5) / (usual + 0.5), 0.02, 50)
            factors += [q**w for w in _POWERS]
        zs = {}
        best = np.full((s, n), -9.0)
        exp_best = np.zeros((s, n))
        up_best = np.zeros((s, n), dtype=bool)
        lengths = [m for m in run_lengths(n) if m <= max(d * n // 3, 1)]
        unit = np.ones(s)
        for m in lengths:
            usual = run_sum(base * v, m)
            total = run_sum(series, m)
            there = known & (run_sum(v, m) >= m / 2)
            counted = there & (past > 0)
            cand = [lag(f, m - 1, 1.0) for f in factors]
            root = np.sqrt(np.maximum(total, 0))
            losses = np.stack([(counted * (root - np.sqrt(np.maximum(usual * f, 0))) ** 2).sum(1) for f in cand])
            pts = counted.sum(1) / max(m / 2, 1)
            least = losses.min(0)
            mean_loss = div(least, counted.sum(1).astype(float)) + _TINY
            ex = -(losses - least) / (2 * mean_loss * max(m / 2, 1)) - 1.0 * (np.arange(len(cand)) > 0)[:, None]
            wts = np.exp(np.maximum(ex - ex.max(0), -60))
            wts /= wts.sum(0)
            factor = np.einsum("ks,kst->st", wts, np.stack(cand))
            expect = usual * factor
            error = counted * (total - expect)
            c = inflate[:, None]
            sq, e1, e2 = (error**2).sum(1), (counted * expect * c).sum(1), (counted * expect**2 * c).sum(1)
            cnt = counted.sum(1)
            if m == 1:
                unit = np.clip((10 + cnt * div(sq, e1, 1.0)) / (10 + cnt), 1e-6, 1.0)
            phi = div(sq - unit * e1, e2)
            prior = np.full(s, PRIOR_DISPERSION) if m == 1 else last * (last_m / m) ** CORR
            size = div(e2, e1)
            extra = np.maximum(phi, prior) * size
            share = div(extra, unit + extra)
            own = cnt / max(1.0, m / 1.5) * share**2
            phi = np.maximum((PRIOR_POINTS * prior + own * phi) / (PRIOR_POINTS + own), LEAST_DISPERSION)
            last, last_m = phi, m
            df = PRIOR_POINTS + own
            debug["phis"].setdefault(m, []).append(phi)
            obs = (raw if m == 1 else total[:, now])
            ok = there[:, now]
            col = lambda a: np.broadcast_to(a[:, None], ok.shape)
            for up in (True, False):
                z = tail_z(obs, expect[:, now], col(weight), col(phi), col(df), col(unit), up)
                z = np.where(ok, z, -9.0)
                zs[m, up] = z
                if m > 1:
                    h = max(k for k in lengths if k <= m / 2)
                    q = max(k for k in lengths if k <= max(m / RECENT, 1))
                    z = np.where((zs[h, up] >= SUFFIX * z) & (zs[q, up] > 0), z, -9.0)
                x = -np.log(np.maximum(special.ndtr(-z), 1e-300) * n * m ** -RUN_POWER)
                known_tops = run_tops.setdefault((m, up), np.full((s, d_all * blocks), -np.inf))
                loc, scale = _recal(known_tops[:, : d * blocks], RUN_PRIOR * blocks, 1.0, 0.0, 60.0 * blocks, CUT)
                debug.setdefault('rs', {}).setdefault((m, up), []).append((loc[0], scale[0]))
                known_tops[:, d * blocks : (d + 1) * blocks] = _block_tops(np.where(known_all[:, d], x, -np.inf), blocks)
                x = (x + np.log(blocks) - loc[:, None]) / scale[:, None] - np.log(blocks)
                better = x > best
                best = np.where(better, x, best)
                exp_best = np.where(better, base[:, now] * factor[:, now], exp_best)
                up_best = np.where(better, up, up_best)
            debug["zs"].setdefault(m, []).append((zs[m, True], zs[m, False]))
        enough = np.maximum(known_all[:, lo:d].sum(axis=(1, 2)), 0) >= max(n, 14)
        judged = known_all[:, d] & enough[:, None]
        lr = -best + np.log(np.maximum(TRIALS_0 + TRIALS_1 * best, 1.0))
        lr = -_relapses(np.where(judged, -lr, -20.0), memory, max(n * RELAPSE, 1e-3))
        raw_out[:, d] = np.where(judged, lr, np.inf)
        expected_out[:, d] = exp_best
        debug["mean"][:, d] = p.today
        up_out[:, d] = up_best
        # recalibration by daily maxima of the days before
        loc, scale = _recal(tops[:, :d], PRIOR_DAYS, 0.7, -2.0, 60.0, CUT_FINAL)
        log_rate[:, d] = np.where(judged, -((-lr - loc[:, None]) / scale[:, None]), np.inf)
        top = np.where(judged, -lr, -np.inf).max(axis=1)
        full = judged.mean(axis=1) >= 0.5
        for a in run_tops.values():
            a[~full, d * blocks : (d + 1) * blocks] = -np.inf
        tops[:, d] = np.where(full, np.where(judged, -lr, -np.inf).max(axis=1), -np.inf)
    return Judged(expected_out, log_rate, up_out, raw_out, debug)


def _relapses(x, memory, half_life):
    out = x.copy()
    peak, age, valley = memory
    for t in range(x.shape[1]):
        now = x[:, t]
        w = 0.5 ** (age / half_life)
        out[:, t] = np.where((valley < CALM) & (now > 0), now - w * np.clip(np.minimum(peak, now), 0, None), now)
        new = now >= peak * w
        peak = np.where(new, now, peak)
        valley = np.where(new, now, np.minimum(valley, now))
        age = np.where(new, 1.0, age + 1.0)
    memory[:] = peak, age, valley
    return out


def _block_tops(x, blocks):
    n = x.shape[1]
    at = (np.arange(n) * blocks) // n
    return np.stack([x[:, at == b].max(axis=1) + np.log(blocks) for b in range(blocks)], axis=1)


def _recal(tops, prior, least_scale, least_loc, memory, CUT):
    """(loc, scale) of daily maxima, Gumbel(0, 1) before anything was seen."""
    C1, C2, CS = _moments(CUT)
    k = np.arange(tops.shape[1])[::-1]
    seen = np.isfinite(tops)
    w = 0.5 ** (k / memory) * seen
    cnt = w.sum(1)
    loc, scale = np.zeros(len(tops)), np.ones(len(tops))
    for _ in range(3):
        v = np.where(seen, np.clip(tops, (loc - 2 * scale)[:, None], (loc + CUT * scale)[:, None]), 0.0)
        mean = (prior * C1 + (w * v).sum(1)) / (prior + cnt)
        second = (prior * C2 + (w * v**2).sum(1)) / (prior + cnt)
        sd = np.sqrt(np.maximum(second - mean**2, 0.01))
        scale = np.clip(sd / CS, least_scale, 30.0)
        loc = np.maximum(mean - C1 * scale, least_loc)
    return loc, scale


_G = -np.log(-np.log((np.arange(100000) + 0.5) / 100000))
CUT, CUT_FINAL = 5.0, 3.0


def _moments(cut):
    g = np.clip(_G, -2, cut)
    return float(g.mean()), float((g**2).mean()), float(g.std())


def _median_ratio(series, base, n):
    b = max(1, n // 12)
    blocks = 12 if n >= 12 else max(n, 7)
    s, t = series.shape
    tb = -(-t // b)
    pad = lambda x: np.pad(x, ((0, 0), (tb * b - t, 0))).reshape(s, tb, b).sum(2)
    q = (pad(series) + 0.5) / (pad(base) + 0.5)
    q = np.pad(q, ((0, 0), (blocks, 0)), constant_values=1.0)
    med = np.median(np.lib.stride_tricks.sliding_window_view(q, blocks, axis=1), axis=2)[:, :tb]  # blocks before each
    out = np.repeat(med, b, axis=1)[:, tb * b - t :]
    return out
