"""One row per measured quantity. Labels, units, JSON keys, help and the explain pop-up all come from here.

A row's ``key`` is the attribute of the struct named by ``owner`` in ``model``: there is no second list
of names. ``chart`` says that history keeps the quantity.
"""

from __future__ import annotations

from halotui.fields.box import BOX
from halotui.fields.field import Field
from halotui.fields.serving import SERVING

__all__ = ["BY_ID", "CHARTED", "FIELDS", "Field"]

FIELDS: tuple[Field, ...] = (*BOX, *SERVING)
BY_ID: dict[str, Field] = {field.id: field for field in FIELDS}
CHARTED: tuple[Field, ...] = tuple(field for field in FIELDS if field.chart)
