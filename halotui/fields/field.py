"""What is told about one measured quantity."""

from __future__ import annotations

from msgspec import Struct


class Field(Struct, frozen=True):
    # gpu | memory | account | system | energy | holder | platform | process | throttle
    # | server | facts | slot | request | model
    owner: str
    key: str  # attribute of the owner's struct, and JSON key
    label: str  # on screen
    # base unit: bytes, bytes/s, hertz, watts, watt-hours, joules, celsius, percent, ratio, seconds, time,
    # tokens, tokens/s, count, number, text
    unit: str
    help: str
    source: str  # where the number comes from
    formula: str = ""
    chart: bool = False
    fine: bool = False  # of seconds, tokens and joules: fractions count

    @property
    def id(self) -> str:
        return f"{self.owner}.{self.key}"
