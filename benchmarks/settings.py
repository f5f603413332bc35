# SPDX-License-Identifier: Apache-2.0
"""How large and how many: the sizes of a full run, and of one that only shows that all works."""

import dataclasses

from benchmarks.bodies import GIB, KIB, MIB


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes are in bytes; every round runs each contender once.

    :ivar line_gigabits: a second, that the line of some clients carries
    """

    rounds: int = 5
    line_gigabits: float = 1
    image: int = GIB
    warm_up: int = 64 * MIB
    lag_sizes: tuple[int, ...] = (64 * MIB, GIB, 4 * GIB)
    qcow2_disk: int = 4 * GIB
    qcow2_data: int = 256 * MIB
    several_targets_image: int = 512 * MIB
    small_image: int = 64 * KIB
    small_images_per_round: int = 100
    small_clients: int = 4
    memory_sizes: tuple[int, int] = (GIB, 16 * GIB)
    idle_seconds: float = 60
    in_flight: int = 100
    in_flight_image: int = 16 * MIB
    in_flight_bytes_per_second: int = MIB
    extra_images: int = 2000
    extra_rows: int = 10000
    rest_rows: int = 100000

    @property
    def line(self) -> str:
        """The line of some clients, for the reader."""
        return f"{self.line_gigabits:g} Gbit/s"

    @property
    def line_curl(self) -> tuple[str, str]:
        """Arguments with which curl takes no more of the line than there is."""
        return ("--limit-rate", str(int(self.line_gigabits * 1e9 / 8)))


QUICK = Settings(
    rounds=3,
    image=32 * MIB,
    warm_up=MIB,
    lag_sizes=(4 * MIB, 32 * MIB),
    qcow2_data=8 * MIB,
    several_targets_image=16 * MIB,
    small_images_per_round=12,
    memory_sizes=(32 * MIB, 256 * MIB),
    idle_seconds=5,
    in_flight=20,
    in_flight_image=2 * MIB,
    extra_images=50,
    extra_rows=500,
    rest_rows=1000,
)
