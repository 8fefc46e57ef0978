"""The one table of quantities agrees with the structs it describes."""

from __future__ import annotations

import msgspec
import pytest

from halotui import fields
from halotui.collectors.gpu_metrics import GpuMetrics
from halotui.model import (
    Account,
    Energy,
    Gpu,
    Holder,
    Memory,
    Platform,
    Request,
    ServedModel,
    Server,
    ServerFacts,
    Slot,
    System,
)
from halotui.runs import ProcessPeak

OWNERS = {"gpu": Gpu, "memory": Memory, "process": ProcessPeak, "server": Server, "slot": Slot}
OWNERS |= {"facts": ServerFacts, "request": Request, "model": ServedModel}
OWNERS |= {"account": Account, "system": System, "energy": Energy, "holder": Holder, "platform": Platform}
KEYS = {
    **{owner: frozenset(struct.__struct_fields__) for owner, struct in OWNERS.items()},
    "throttle": frozenset(
        name.removeprefix("throttle_") for name in GpuMetrics.__struct_fields__ if "throttle_" in name
    ),
}
UNITS = {
    "_bytes": "bytes",
    "_bytes_per_second": "bytes/s",
    "joules_per_token": "joules",
    "_watt_hours": "watt-hours",
    "_hertz": "hertz",
    "_watts": "watts",
    "_celsius": "celsius",
    "_percent": "percent",
    "_ratio": "ratio",
    "_per_second": "tokens/s",
    "_seconds": "seconds",
    "_tokens": "tokens",
}


@pytest.mark.parametrize("field", fields.FIELDS, ids=lambda field: field.id)
def test_a_row(field: fields.Field) -> None:
    assert field.key in KEYS[field.owner]
    unit = next((unit for ending, unit in UNITS.items() if field.key.endswith(ending)), None)
    assert unit is None or field.unit == unit
    assert field.label and len(field.label) <= 16
    assert field.help.endswith((".", ")")) and field.source
    assert not field.chart or field.unit != "text"


def test_ids_are_unique() -> None:
    assert len(fields.BY_ID) == len(fields.FIELDS)


@pytest.mark.parametrize("owner", OWNERS)
def test_every_number_that_is_sent_is_described(owner: str) -> None:
    """A quantity without a row would have no label, no help and no unit."""
    described = {field.key for field in fields.FIELDS if field.owner == owner}
    numbers = {
        info.name
        for info in msgspec.structs.fields(OWNERS[owner])
        if info.name.endswith(tuple(UNITS)) and info.name not in described
    }
    assert not numbers
