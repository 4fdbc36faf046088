"""Made-up fleets for benchmarks: lanes and nodes around large cities, few lanes with most of the
load, nodes of different sizes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels.geo import haversine_km_matrix
from kernels.tables import (
    Floats,
    Ints,
    Problem,
    RttModel,
    Weights,
    lane_table,
    make_problem,
    node_table,
)

# Name, latitude, longitude, millions of people (rounded; only the proportions matter).
CITIES = """
Tokyo 35.7 139.7 37, Delhi 28.6 77.2 32, Shanghai 31.2 121.5 28, Dhaka 23.8 90.4 23, São_Paulo -23.6 -46.6 22,
Mexico_City 19.4 -99.1 22, Cairo 30.0 31.2 22, Beijing 39.9 116.4 21, Mumbai 19.1 72.9 21, Osaka 34.7 135.5 19,
New_York 40.7 -74.0 19, Karachi 24.9 67.0 17, Kinshasa -4.4 15.3 16, Lagos 6.5 3.4 16, Istanbul 41.0 29.0 16,
Buenos_Aires -34.6 -58.4 15, Kolkata 22.6 88.4 15, Manila 14.6 121.0 14, Guangzhou 23.1 113.3 14, Los_Angeles 34.1 -118.2 13,
Rio_de_Janeiro -22.9 -43.2 13, Moscow 55.8 37.6 12, Bengaluru 13.0 77.6 13, Paris 48.9 2.4 11, Bogotá 4.7 -74.1 11,
Jakarta -6.2 106.8 11, Chennai 13.1 80.3 11, Lima -12.0 -77.0 11, Bangkok 13.8 100.5 11, Seoul 37.6 127.0 10,
London 51.5 -0.1 9, Tehran 35.7 51.4 9, Chicago 41.9 -87.6 9, Chengdu 30.6 104.1 9, Ho_Chi_Minh_City 10.8 106.6 9,
Luanda -8.8 13.2 9, Kuala_Lumpur 3.1 101.7 8, Hong_Kong 22.3 114.2 7, Riyadh 24.7 46.7 7, Santiago -33.4 -70.7 7,
Baghdad 33.3 44.4 7, Dallas 32.8 -96.8 7, Houston 29.8 -95.4 7, Taipei 25.0 121.6 7, Madrid 40.4 -3.7 7,
Dar_es_Salaam -6.8 39.2 7, Toronto 43.7 -79.4 6, Miami 25.8 -80.2 6, Atlanta 33.7 -84.4 6, Singapore 1.4 103.8 6,
Khartoum 15.5 32.6 6, Johannesburg -26.2 28.0 10, Barcelona 41.4 2.2 5, Saint_Petersburg 59.9 30.3 5, Nairobi -1.3 36.8 5,
Guadalajara 20.7 -103.3 5, Ankara 39.9 32.9 5, Sydney -33.9 151.2 5, Melbourne -37.8 145.0 5, Addis_Ababa 9.0 38.7 5,
Cape_Town -33.9 18.4 5, Boston 42.4 -71.1 5, Yangon 16.8 96.2 5, Milan 45.5 9.2 5, Rome 41.9 12.5 4,
Berlin 52.5 13.4 4, Tel_Aviv 32.1 34.8 4, Montréal 45.5 -73.6 4, Seattle 47.6 -122.3 4, Phoenix 33.4 -112.1 5,
Accra 5.6 -0.2 4, Casablanca 33.6 -7.6 4, Recife -8.0 -34.9 4, Denver 39.7 -105.0 3, Kyiv 50.5 30.5 3,
Caracas 10.5 -66.9 3, Dubai 25.2 55.3 3, Lisbon 38.7 -9.1 3, Athens 38.0 23.7 3, Algiers 36.8 3.1 3,
Minneapolis 45.0 -93.3 3, Vancouver 49.3 -123.1 3, Manchester 53.5 -2.2 3, Frankfurt 50.1 8.7 3, Warsaw 52.2 21.0 2,
Vienna 48.2 16.4 2, Stockholm 59.3 18.1 2, Tashkent 41.3 69.2 3, Almaty 43.2 76.9 2, Perth -32.0 115.9 2,
Auckland -36.8 174.8 2, Novosibirsk 55.0 82.9 2, Dublin 53.4 -6.3 1, Helsinki 60.2 24.9 1, Honolulu 21.3 -157.9 1
"""
PLACES = [city.split() for city in CITIES.replace("\n", " ").split(",")]
CITY_LAT, CITY_LON, PEOPLE = np.array([[float(x) for x in place[1:]] for place in PLACES]).T

HEAVIEST = 0.25  # a lane's largest share of the median node: the lane map slices heavier cells
REGIONS = 32  # how many cities are regions of the RTT table
MEASURED = 0.15  # share of their pairs that are measured
A_MS, B_MS_PER_KM = 2.0, 0.015  # light in glass, there and back, on routes half as long again


class Instance(NamedTuple):
    """A problem with its lanes' load and its nodes' room, in events/s: float64[L], float64[N]."""

    problem: Problem
    load_eps: Floats
    room_eps: Floats


def scattered(
    rng: np.random.Generator, count: int, *, jitter: float, anywhere: float, power: float
) -> tuple[Floats, Floats]:
    """Places around cities, more at larger ones. A share `anywhere` of them lies anywhere on the
    inhabited globe."""
    weight = PEOPLE**power
    city = rng.choice(len(PEOPLE), count, p=weight / weight.sum())
    lat = CITY_LAT[city] + rng.normal(0, jitter, count)
    lon = CITY_LON[city] + rng.normal(0, jitter, count) / np.cos(np.radians(CITY_LAT[city]))
    far = rng.random(count) < anywhere
    lat[far] = np.degrees(np.arcsin(rng.uniform(-0.7, 0.95, int(far.sum()))))
    lon[far] = rng.uniform(-180, 180, int(far.sum()))
    return np.clip(lat, -89, 89), (lon + 180) % 360 - 180


def cut(load: Floats, most: float) -> Floats:
    """Load of the same sum with nothing above `most`: the excess is spread over the others in
    proportion."""
    load = load.copy()
    for _ in range(100):
        over = load > most
        excess = float((load[over] - most).sum())
        if excess <= 1e-9 * most:
            break
        load[over] = most
        rest = load < most
        load[rest] *= 1 + excess / load[rest].sum()
    return np.minimum(load, most)


def rtt_table(rng: np.random.Generator) -> RttModel:
    """Round trips between the largest cities. A few are measured and off the line, like real
    ones."""
    largest = np.argsort(-PEOPLE, kind="stable")[:REGIONS]
    lat, lon = CITY_LAT[largest], CITY_LON[largest]
    line = A_MS + B_MS_PER_KM * haversine_km_matrix(lat, lon, lat, lon)
    measured = rng.random(line.shape) < MEASURED
    rtt = np.where(measured, 1 + line * rng.uniform(0.8, 1.6, line.shape), line)
    return RttModel(
        tuple(PLACES[i][0] for i in largest), lat, lon, rtt, measured, A_MS, B_MS_PER_KM
    )


def instance(
    lanes: int,
    nodes: int,
    utilisation: float,
    seed: int,
    *,
    move_ms: float = 2.0,
    zipf: float = 0.9,
) -> Instance:
    """`lanes` lanes without owners, and `nodes` nodes that their load fills to `utilisation`."""
    rng = np.random.default_rng([seed, lanes, nodes])
    rtt = rtt_table(rng)
    lat, lon = scattered(rng, nodes, jitter=0.5, anywhere=0.0, power=0.7)
    site = haversine_km_matrix(lat, lon, rtt.lat, rtt.lon).argmin(axis=1).astype(np.int32)
    degraded = np.where(rng.random(nodes) < 0.1, rng.uniform(5, 40, nodes), 0.0)
    lane_lat, lane_lon = scattered(rng, lanes, jitter=1.5, anywhere=0.15, power=1.0)
    room = rng.lognormal(0, 0.5, nodes)
    load = rng.permutation(1 / np.arange(1, lanes + 1) ** zipf)
    load *= 1e6 / load.sum()
    room *= load.sum() / utilisation / room.sum()
    load = cut(load, HEAVIEST * float(np.median(room)))
    return Instance(
        make_problem(
            lane_table(lane_lat, lane_lon),
            node_table(
                lat, lon, site=site, egress_ms=rng.uniform(0, 4, nodes), degraded_ms=degraded
            ),
            rtt,
            Weights(move_ms=move_ms),
        ),
        load,
        room,
    )


def owned(p: Problem, owner: Ints) -> Problem:
    """The same problem once `owner` has the lanes."""
    return p._replace(lanes=p.lanes._replace(owner=owner))
