"""Rotary embeddings: which ones keep documents apart, and how longer windows get positions."""

from transformers import PreTrainedConfig

from ...schemas.errors import UsageError

__all__ = ["ROPE_TYPES", "fit_window", "override_rope", "rotates_by_position"]

ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings in which the rotation depends on the position alone. With `dynamic` and
`longrope` it depends on the longest position of the batch: a document would see how long its
neighbours are."""

STRETCHED_BY_YARN = ("default", "yarn")
"""Those of them that YaRN may replace."""


def rotates_by_position(config: PreTrainedConfig) -> bool:
    """Whether the rotation of a token depends on its position alone, in all layers.

    Args:
        config: of any model; kinds of layers may have embeddings of their own, or it may have none.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    of_layers = [each for each in rope.values() if isinstance(each, dict)] or [rope]
    return all(each.get("rope_type", "default") in ROPE_TYPES for each in of_layers)


def override_rope(
    config: PreTrainedConfig,
    *,
    rope_theta: float | None,
    yarn_factor: float | None,
    where: str | None,
) -> None:
    """Gives a configuration another rotary embedding, in place.

    Args:
        config: of the model.
        rope_theta: the new base; None to keep the model's.
        yarn_factor: by how much YaRN stretches the model's positions; None not to stretch them.
        where: the model's folder, for errors.

    Raises:
        UsageError: the model has a scaling of another type, or more positions already.
    """
    rope = dict(config.rope_parameters)
    if rope_theta is not None:
        rope["rope_theta"] = rope_theta
    config.rope_parameters = rope
    if yarn_factor is not None:
        _stretch(config, yarn_factor, where)


def _stretch(config: PreTrainedConfig, yarn_factor: float, where: str | None) -> None:
    """Stretches the positions by YaRN, in place."""
    rope = dict(config.rope_parameters)
    rope_type = rope.get("rope_type", "default")
    if rope_type not in STRETCHED_BY_YARN:
        raise UsageError(
            f"--yarn-factor {yarn_factor:g} would replace the model's own scaling of "
            f"positions, {rope_type}",
            where=where,
            expected="a model whose scaling is " + " or ".join(STRETCHED_BY_YARN),
            fix="use --rope-theta instead of --yarn-factor",
        )
    original = _original_positions(config)
    longest = int(original * yarn_factor)
    if longest < config.max_position_embeddings:
        raise UsageError(
            f"--yarn-factor {yarn_factor:g} makes {longest:,} positions of {original:,}, but "
            f"the model already has {config.max_position_embeddings:,}",
            where=where,
            fix=f"give at least {config.max_position_embeddings / original:g}",
        )
    rope.pop("attention_factor", None)  # belonged to the old factor
    rope = {
        **(rope if rope_type == "yarn" else {}),
        "rope_type": "yarn",
        "rope_theta": rope["rope_theta"],
        "factor": yarn_factor,
        "original_max_position_embeddings": original,
    }
    config.max_position_embeddings = longest
    config.rope_parameters = rope


def _original_positions(config: PreTrainedConfig) -> int:
    """Number of positions before any scaling, which YaRN's factor multiplies."""
    return config.rope_parameters.get(
        "original_max_position_embeddings", config.max_position_embeddings
    )


def fit_window(
    config: PreTrainedConfig, window: int, *, stretched: bool, where: str | None
) -> None:
    """Checks that a window fits the model's positions, or makes it fit where they are stretched.

    Args:
        config: of the model; changed in place.
        window: length in tokens.
        stretched: whether the base of the rotary embedding was chosen for this window.
        where: the model's folder, for errors.

    Raises:
        UsageError: the window is longer than the model's positions, which are not stretched.
    """
    longest = config.max_position_embeddings
    if window <= longest:
        return
    if not stretched:
        rope = config.rope_parameters
        advice = f"--rope-theta (now {rope['rope_theta']:g}; the same value keeps it)"
        if rope.get("rope_type", "default") in STRETCHED_BY_YARN:
            advice = f"--yarn-factor {-(-window // _original_positions(config))}, or {advice}"
        raise UsageError(
            f"the windows have {window:,} tokens, the model only {longest:,} positions",
            where=where,
            fix=f"stretch the positions: {advice}",
        )
    config.max_position_embeddings = window
