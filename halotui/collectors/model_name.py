"""What the name of a model tells where its file is not ours to read.

``Qwen3.5-122B-A10B``: ten billion parameters are active. A name that says nothing of a mixture of experts
proves nothing: only sizes of families that are known to be dense are taken for it.
"""

from __future__ import annotations

import re

from halotui.gguf.weights import Weights

NAME, META = "name", "/v1/models"  # what told, as provenance
_BILLIONS = r"(\d{1,3}(?:\.\d{1,2})?)B(?![a-z\d])"
_ACTIVE = re.compile(rf"(?<![a-z\d])A{_BILLIONS}", re.IGNORECASE)
_SIZE = re.compile(rf"(?<![a-z\d.]){_BILLIONS}", re.IGNORECASE)
_MIXTURE = re.compile(r"moe|mixtral|\dx\d|expert", re.IGNORECASE)
_DENSE = {  # family: billions of parameters, as their names say
    r"llama-?[23](?!\d)": (1, 3, 7, 8, 13, 70),
    r"gemma-?[23](?![\dn])": (1, 2, 4, 9, 12, 27),
    r"qwen-?2\.5": (0.5, 1.5, 3, 7, 14, 32, 72),
    r"qwen-?3(?![.\d])": (0.6, 1.7, 4, 8, 14, 32),
    r"mistral": (7,),
}
_SLACK = 0.35  # names round: Gemma 2 2B has 2.6 billion


def weights(name: str | None, parameters: int | None, size: int | None) -> tuple[Weights, str] | None:
    """``parameters`` and ``size`` (bytes) of the whole model, as the server says. None: it cannot be told."""
    if not name or not parameters:
        return None
    if found := _ACTIVE.search(name):
        active = round(float(found[1]) * 1e9)
        return (_part(parameters, active, size), NAME) if 0 < active < parameters else None
    if _MIXTURE.search(name) or not _is_dense(name, parameters):
        return None
    return _part(parameters, parameters, size), META


def _is_dense(name: str, parameters: int) -> bool:
    told = _SIZE.search(name)
    sizes = next((known for family, known in _DENSE.items() if re.search(family, name, re.IGNORECASE)), ())
    if told is None or float(told[1]) not in sizes:
        return False
    billions = float(told[1])
    return abs(parameters / 1e9 - billions) <= billions * _SLACK


def _part(parameters: int, active: int, size: int | None) -> Weights:
    return Weights(
        parameters=parameters,
        bytes=size,
        active_parameters=active,
        token_bytes=round(size * active / parameters) if size else None,
    )
