"""Cities, how far apart they are, and the network addresses that belong to each.

The addresses are from 240.0.0.0/4, which is reserved and routed nowhere: no address in a log that we write is
anybody's. The first byte says what kind of line it is, the second which city.
"""

import math
from typing import Final, Literal, NamedTuple

from vedette.simulate.logins.chance import Chance

LineKind = Literal["home", "mobile", "public", "vpn", "office", "datacentre"]

# The byte before the city's, and how many networks of 254 addresses the city has of that kind. Of a commercial
# VPN, an office or a data centre all customers leave by the same few addresses.
_FIRST_BYTE: Final[dict[LineKind, int]] = {"home": 241, "mobile": 242, "public": 243, "vpn": 244, "office": 245, "datacentre": 246}
_SHARED_ADDRESSES: Final[dict[LineKind, int]] = {"vpn": 12, "office": 4, "datacentre": 8}

_EARTH_RADIUS_KM: Final = 6371.0
# A door-to-door journey: an airliner's speed, and the hours at both airports.
_FLIGHT_KM_PER_H: Final = 800.0
_AIRPORTS_H: Final = 3.5


class City(NamedTuple):
    """A place where people are. `utc_h` is its standard time; summer time is left out."""

    name: str
    country: str
    latitude: float
    longitude: float
    utc_h: float


class Line(NamedTuple):
    """How somebody reaches the identity provider, and where that address is said to be."""

    ip: str
    city: City


OFFICES: Final = (
    City("Munich", "Germany", 48.1, 11.6, 1),
    City("Hamburg", "Germany", 53.6, 10.0, 1),
    City("London", "United Kingdom", 51.5, -0.1, 0),
    City("Madrid", "Spain", 40.4, -3.7, 1),
    City("Warsaw", "Poland", 52.2, 21.0, 1),
    City("Chicago", "United States", 41.9, -87.6, -6),
    City("Sao Paulo", "Brazil", -23.6, -46.6, -3),
    City("Bangalore", "India", 13.0, 77.6, 5.5),
    City("Singapore", "Singapore", 1.4, 103.8, 8),
    City("Osaka", "Japan", 34.7, 135.5, 9),
)
CITIES: Final = (
    *OFFICES,
    City("Lisbon", "Portugal", 38.7, -9.1, 0),
    City("Bucharest", "Romania", 44.4, 26.1, 2),
    City("Istanbul", "Turkey", 41.0, 29.0, 3),
    City("Cairo", "Egypt", 30.0, 31.2, 2),
    City("Lagos", "Nigeria", 6.5, 3.4, 1),
    City("Johannesburg", "South Africa", -26.2, 28.0, 2),
    City("Toronto", "Canada", 43.7, -79.4, -5),
    City("Seattle", "United States", 47.6, -122.3, -8),
    City("Mexico City", "Mexico", 19.4, -99.1, -6),
    City("Hanoi", "Vietnam", 21.0, 105.8, 7),
    City("Jakarta", "Indonesia", -6.2, 106.8, 7),
    City("Sydney", "Australia", -33.9, 151.2, 10),
)
_NUMBER: Final = {city: number for number, city in enumerate(CITIES, start=1)}


def draw_line(kind: LineKind, city: City, chance: Chance) -> Line:
    """A line of this kind in this city, any of those that there are."""
    shared = _SHARED_ADDRESSES.get(kind)
    low = f"0.{chance.whole(1, shared) * 19}" if shared else f"{chance.whole(0, 255)}.{chance.whole(1, 254)}"
    return Line(f"{_FIRST_BYTE[kind]}.{_NUMBER[city]}.{low}", city)


def distance_km(one: City, other: City) -> int:
    """Along the great circle, in whole kilometres."""
    north, south = math.radians(one.latitude), math.radians(other.latitude)
    half_across = math.radians(other.longitude - one.longitude) / 2
    chord = math.sin((south - north) / 2) ** 2 + math.cos(north) * math.cos(south) * math.sin(half_across) ** 2
    return round(2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(chord)))


def journey_s(one: City, other: City) -> float:
    """The least seconds in which a person gets from one city to another."""
    return (distance_km(one, other) / _FLIGHT_KM_PER_H + _AIRPORTS_H) * 3600.0


def far_from(city: City, *, least_km: int = 2500) -> tuple[City, ...]:
    """Cities too far for a person to be in both within the hour."""
    return tuple(other for other in CITIES if distance_km(city, other) >= least_km)
