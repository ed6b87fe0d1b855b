"""Distillation that begins late: before ``start`` updates the leaves learn from labels alone."""

from tsa_mt.objectives.base import Objective
from tsa_mt.objectives.config import ObjectiveConfig
from tsa_mt.objectives.rows import Context, LossTerms, Rows


class Late(Objective):
    """Mixin before an objective: task losses alone until the criterion says that it has begun.

    The leaves' task loss then has weight 1, whatever share the objective leaves it. Task losses of
    its trainable parts (a fused classifier, a gated ensemble) are trained from the first update.
    """

    def task_weight(self, context: Context) -> float:
        """See `Objective.task_weight`."""
        alone = not context.started and "task" in self.gradients
        return 1.0 if alone else super().task_weight(context)

    def terms(self, rows: Rows) -> LossTerms:
        """See `Objective.terms`."""
        if rows.context.started:
            return super().terms(rows)
        more = [name for name in self.gradients if name.endswith("_task")]
        if not more:
            return rows.task_alone(self.gradients)
        terms = super().terms(rows)
        early = {name: terms[name] if name in more else 0 * terms[name].detach() for name in terms}
        if "task" in terms:
            early["task"] = rows.task_losses()[: self.leaves].sum()
        return early


def begun_late(cls: type[Objective], config: ObjectiveConfig) -> type[Objective]:
    """The class of an objective with these options: itself, or one that distils late."""
    return type(f"Late{cls.__name__}", (Late, cls), {}) if config.start else cls
