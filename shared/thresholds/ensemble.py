"""The median of several rules."""

from __future__ import annotations

from shared.errors import InvalidConfig
from shared.thresholds.base import Cut, Normal, Settings, register, rule_of

NAME = "ensemble"


@register(NAME)
def ensemble(normal: Normal, config: Settings) -> Cut:
    """The median of the values that `config.members` give, mode by mode: one rule that is far off does not move it.

    It supports no rate of its own; the members' caveats are its own. The value stays as it is, even if a member's
    would move.

    Raises:
        UnknownName: a member is no rule.
        InvalidConfig: it is its own member.
    """
    from statistics import median  # Half a megabyte that a scorer, which sets no thresholds, does without.

    if NAME in config.members:
        raise InvalidConfig("recipe.threshold.members: an ensemble cannot be its own member.", "Name other rules.")
    cuts = [rule_of(name)(normal, config) for name in config.members]
    modes = max(len(cut.by_mode) for cut in cuts)
    by_mode = tuple(median(cut.by_mode[k] if cut.by_mode else cut.value for cut in cuts) for k in range(modes))
    caveats = dict.fromkeys(cut.caveat for cut in cuts if cut.caveat)
    asked = config.false_alarm_rate if any(cut.false_alarm_rate for cut in cuts) else None
    return Cut(median(cut.value for cut in cuts), asked, caveat=" ".join(caveats), by_mode=by_mode)
