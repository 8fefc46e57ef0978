"""What is usual here for the server that is probed: of the same setup, depth band and one stream."""

from __future__ import annotations

from msgspec.structs import replace

from halotui.baselines.setups import depth_band, prompt_band, setup_of
from halotui.ledger import Baseline, Baselines, Key, Metric
from halotui.model import Server

ALONE = "1"  # requests at once


class Usual:
    """Each is None where nothing was seen yet."""

    def __init__(self, baselines: Baselines, server: Server) -> None:
        self._known = baselines
        self._setup = setup_of(server)

    def decode(self, depth: float) -> Baseline | None:
        """``depth``: tokens in the slot at the end."""
        if self._setup is None:
            return None
        return self._known.of(
            Key(setup=self._setup, metric=Metric.DECODE, depth=depth_band(depth), streams=ALONE)
        )

    def prefill(self, depth: float, prompt: float) -> Baseline | None:
        """``depth``: tokens in the slot before; ``prompt``: those computed."""
        if self._setup is None or not prompt_band(prompt):
            return None
        return self._known.of(
            Key(
                setup=self._setup,
                metric=Metric.PREFILL,
                depth=depth_band(depth),
                streams=ALONE,
                prompt=prompt_band(prompt),
            )
        )

    def decode_without_drafts(self, depth: float) -> Baseline | None:
        """Of the same setup but for speculation, else of the same model and backend as it ran last."""
        if self._setup is None:
            return None
        plain = replace(self._setup, speculation="")
        key = Key(setup=plain, metric=Metric.DECODE, depth=depth_band(depth), streams=ALONE)
        alike = self._known.alike(plain.model, Metric.DECODE)
        others = (
            one
            for one in alike
            if (one.key.depth, one.key.streams, one.key.setup.speculation) == (key.depth, ALONE, "")
            and (one.key.setup.quant, one.key.setup.backend) == (plain.quant, plain.backend)
        )
        return self._known.of(key) or next(others, None)
