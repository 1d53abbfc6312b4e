"""What a model's forward pass costs, from its shapes."""

import json
from pathlib import Path
from typing import Any


def config_of(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model / "config.json").read_text())
    return found


def layer_shapes(config: dict[str, Any]) -> list[tuple[int, int]]:
    """(inputs, outputs) of the matrices of one layer: BERT's kind, or a gated decoder such as Qwen2."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    key_value = width // heads * config.get("num_key_value_heads", heads)
    gated = config.get("hidden_act") == "silu"
    attention = [(width, width), (width, key_value), (width, key_value), (width, width)]
    return [*attention, *[(width, inner)] * (2 if gated else 1), (inner, width)]


def flops_per_token(config: dict[str, Any], lengths: list[int]) -> float:
    """FLOPs a token, of the matrices and of attention (q·k and its product with v), over sequences of these lengths.

    Bidirectional attention: each token meets every other. Norms, activations and pooling are not counted.
    """
    matrices = sum(2 * a * b for a, b in layer_shapes(config))
    met = sum(length**2 for length in lengths) / sum(lengths)
    return float(config["num_hidden_layers"] * (matrices + 4 * met * config["hidden_size"]))
